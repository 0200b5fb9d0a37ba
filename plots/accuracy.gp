# Accuracy of each form of a model, with its 95 % interval, against the machine time of its tokens.
load "style.gp"
set xlabel "machine time, core-seconds per 1000 generated tokens"
set ylabel "correct answers, %"
stats "data.csv" using "cost" nooutput name "C"
stats "data.csv" using "hi" nooutput name "H"
stats "data.csv" using "lo" nooutput name "L"
set xrange [0:C_max * 1.3]
set yrange [L_min - 0.2 * (H_max - L_min):H_max + 0.3 * (H_max - L_min)]
set key off
plot "data.csv" using "cost":"accuracy":"lo":"hi" with yerrorbars pt 7 ps 0.8 lw 2 lc rgb blue, \
     "" using "cost":"hi":(stringcolumn("what")) with labels offset 0,0.8
