"""Rules that read weights, and what a reading of all of them gives (`scan`). Imported only where weights are read."""
