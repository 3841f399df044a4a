"""The physics, one file a process: a scalar step of one cell or reach, and what it is made of."""
