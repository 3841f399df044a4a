"""Physics as scalar steps (one cell or reach, one step) and the loops that run them."""
