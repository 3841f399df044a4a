"""Everything that is read and written: NetCDF and Zarr, forcing, observations, output, restart files."""
