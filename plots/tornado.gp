# One bar for each input, from the saving at its 10 % point to that at its 90 % point; widest on top.
load "style.gp"
set yrange [*:*] reverse
set format x "%.0s%c"
set xlabel "saving, " . unit
set key off
set border 1
stats "data.csv" using "point" nooutput
set arrow from first STATS_max, graph 0 to first STATS_max, graph 1 nohead lw 2 lc rgb grey
stats "data.csv" using "low" nooutput name "L"
stats "data.csv" using "high" nooutput name "H"
least = L_min < H_min ? L_min : H_min
most = L_max > H_max ? L_max : H_max
if (least <= 0 && 0 <= most) set arrow from first 0, graph 0 to first 0, graph 1 nohead dt 2 lw 2 lc rgb red
set xtics
set offsets 0, 0, 0.6, 0.6
plot "data.csv" using "low":0:"low":"point":($0 - 0.38):($0 + 0.38):ytic(stringcolumn("input")) with boxxyerror lc rgb blue, \
     "" using "high":0:"point":"high":($0 - 0.38):($0 + 0.38) with boxxyerror lc rgb orange
