# Cost of a million tokens by the share of the time a machine is busy; APIs cost the same at any.
load "style.gp"
set logscale xy
set xlabel "utilisation, %"
set ylabel unit . " per million tokens"
set xtics (1, 2, 5, 10, 20, 50, 100)
stats "data.csv" using "now" nooutput
set arrow from first STATS_max, graph 0 to first STATS_max, graph 1 nohead dt 2 lw 2 lc rgb grey
set label "assumed" at first STATS_max, graph 0.97 offset 0.6,0 tc rgb grey
plot for [i = 3:STATS_columns] "data.csv" using 1:i with lines lw 2.5 lc rgb hue[(i - 3) % 6 + 1] dt 1 + (i - 3) / 6 title columnheader(i)
