# Saving over the years by requests a month: median, and the band of 90 % of the draws.
load "style.gp"
set logscale x
set format x "%.0s%c"
set format y "%.1s%c"
set xlabel "requests a month"
set ylabel "saving, " . unit
set xzeroaxis lw 2 lc rgb grey
stats "data.csv" using "now" nooutput
set arrow from first STATS_max, graph 0 to first STATS_max, graph 1 nohead dt 2 lw 2 lc rgb red
set label "this scenario" at first STATS_max, graph 0.97 offset 0.6,0 tc rgb red
plot "data.csv" using "requests":"p5":"p95" with filledcurves fs transparent solid 0.3 lc rgb blue title "5 to 95 %", \
     "" using "requests":"p50" with lines lw 3 lc rgb blue title "median"
