"""Labels: parameters that were calibrated locally, per gauge or cell, for a generator to learn from."""
