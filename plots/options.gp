# Accuracy of each option, with its 95 % interval, against what one request costs.
load "style.gp"
set xlabel unit . " per request"
set ylabel "correct answers, %"
set logscale x
stats "data.csv" using "request" nooutput name "R"
stats "data.csv" using "hi" nooutput name "H"
stats "data.csv" using "lo" nooutput name "L"
set xrange [R_min / 2:R_max * 2]
levels = R_records < 8 ? R_records : 8 # one for each name: neighbours may cost about the same
height(n) = H_max + 0.16 * (int(n) % levels) * (H_max - L_min)
set yrange [L_min - 0.2 * (H_max - L_min):height(levels - 1) + 0.3 * (H_max - L_min)]
set key off
plot "data.csv" using "request":"accuracy":"lo":"hi" with yerrorbars pt 7 ps 0.8 lw 2 lc rgb blue, \
     "" using "request":(height($0)):(stringcolumn("option")) with labels offset 0,0.8
