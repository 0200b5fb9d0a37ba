# Accuracy of each option, with its 95 % interval, against what one request costs.
load "style.gp"
set xlabel unit . " per request"
set ylabel "correct answers, %"
set logscale x
stats "data.csv" using "request" nooutput name "R"
stats "data.csv" using "hi" nooutput name "H"
stats "data.csv" using "lo" nooutput name "L"
set xrange [R_min / 2:R_max * 2]
set yrange [L_min - 0.2 * (H_max - L_min):H_max + 0.9 * (H_max - L_min)]
set key off
lift(n) = 0.16 * (int(n) % 4) * (H_max - L_min) # neighbours with about the same cost
plot "data.csv" using "request":"accuracy":"lo":"hi" with yerrorbars pt 7 ps 0.8 lw 2 lc rgb blue, \
     "" using "request":(column("hi") + lift($0)):(stringcolumn("option")) with labels offset 0,0.8
