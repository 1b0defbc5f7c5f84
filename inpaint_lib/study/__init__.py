"""A study: configuration, grid of runs and their folders, files, provenance, devices, processes."""
