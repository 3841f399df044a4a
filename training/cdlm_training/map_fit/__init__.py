"""Parameters fitted cell by cell to maps of signatures, without gauges and without rivers."""
