"""Measuring trained networks and baselines: measures, FID, baselines, the model card."""
