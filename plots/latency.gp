# Time per token against tokens per second; each point a number of sessions that decode together.
load "style.gp"
set xlabel "tokens/s, all sessions together"
set ylabel "time per output token, ms"
set logscale xy
stats "data.csv" using "rate" nooutput name "R"
stats "data.csv" using "tpot" nooutput name "T"
set xrange [R_min / 8:R_max * 6]
set yrange [T_min / 3:T_max * 3]
set key off
at(n, lo, hi) = int(n) % 2 ? hi * 1.35 : lo / 1.35 # in turns above and below: neighbours overlap less
plot "data.csv" using "rate":"tpot":"lo":"hi" with yerrorbars pt 7 ps 0.8 lw 2 lc rgb blue, \
     "" using "rate":(at($0, column("lo"), column("hi"))):(stringcolumn("what")) with labels
