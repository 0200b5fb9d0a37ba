# Operations per second against operations per byte: what was reached, and the roof of that very case.
load "style.gp"
set logscale xy
set xlabel "operations per byte from memory"
set ylabel "Gop/s"
stats "data.csv" using "read_roof" nooutput name "R"
stats "data.csv" using "peak_roof" nooutput name "P"
stats "data.csv" using "intensity" nooutput name "I"
stats "data.csv" using "best" nooutput name "B"
set xrange [I_min / 2:I_max * 2]
set yrange [B_min / 30:P_max * 2]
roof(x) = R_max * x < P_max ? R_max * x : P_max
plot roof(x) with lines lw 2 lc rgb grey title "read bandwidth, arithmetic peak", \
     "data.csv" using "intensity":"roof" with points pt 2 ps 0.8 lw 1.5 lc rgb grey title "roof of the case", \
     "" using "intensity":"best" with points pt 7 ps 0.8 lc rgb blue title "best variant", \
     "" using "intensity":"yardstick" with points pt 6 ps 0.9 lw 2 lc rgb orange title "BLAS"
