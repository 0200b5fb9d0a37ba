# Where the time of a step goes: one bar for each step, a colour for each class of calls.
load "style.gp"
set style data histograms
set style histogram rowstacked
set boxwidth 0.6
set ylabel "ms"
set yrange [0:*]
set xtics scale 0 rotate by 12 right
set key outside right top vertical
stats "data.csv" using 3 nooutput
plot for [i = 3:STATS_columns] "data.csv" using i:xtic(1) lc rgb hue[(i - 3) % 6 + 1] fs solid 1 - 0.35 * ((i - 3) / 6) title columnheader(i), \
     "" using 0:2 with points pt 2 ps 1.5 lw 2 lc rgb "black" title "median of the step"
