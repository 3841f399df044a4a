"""Making domain, forcing and observation files from rasters and tables."""
