# What all figures share. kind (svg or png), mark and unit come from the program; so does data.csv.
# The colours have a contrast of 4 to 1 to white and to near black; black becomes the page's text.
if (kind eq "svg") {
    set terminal svg size 760,400 dynamic font "sans-serif,14" noenhanced
} else {
    set terminal pngcairo size 1520,800 font "sans,22" noenhanced background "white"
}
set output "figure"
set datafile separator ","
set datafile columnheaders
blue = "#2f7fc1"; orange = "#c2691a"; green = "#2f8f4e"; purple = "#8a63c9"; red = "#c94f4f"; grey = "#7d8791"
array hue[6] = [blue, orange, green, purple, red, grey]
set border 3 lc rgb grey
set tics nomirror out textcolor rgb "black"
set grid back lc rgb "#55" . "7d8791" lw 0.5
set key outside top center horizontal Left reverse
set style fill solid 0.85 noborder
# the program makes this colour transparent in an SVG; PNG can have it so at once
if (mark ne "") set label 99 mark at screen 0.5, 0.5 center rotate by 18 font ",64" tc rgb (kind eq "svg" ? "#010203" : "#bbc94f4f") front
