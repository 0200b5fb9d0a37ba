# kernel<<<grid, block, shared, stream>>>(arguments) -> emulated::launch(kernel, grid, block, shared, stream)(arguments)
s/([A-Za-z_][A-Za-z_0-9]*(<[^<>;]*>)?)<<</emulated::launch(\1, /g
s/>>>\(/)(/g
