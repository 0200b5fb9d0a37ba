# What fills the memory of one replica.
load "style.gp"
set style data histograms
set style histogram rowstacked
set boxwidth 0.6
set ylabel "GB"
set yrange [0:*]
set xtics scale 0
plot "data.csv" using "reserve":xtic(stringcolumn("option")) lc rgb grey title "reserve", \
     "" using "weights" lc rgb blue title "weights", \
     "" using "activations" lc rgb purple title "activations", \
     "" using "sessions" lc rgb green title "keys and values at the load", \
     "" using "free" lc rgb orange fs transparent solid 0.25 border title "free for keys and values"
