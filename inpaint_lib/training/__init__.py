"""Training: the loop, its step, a run's identity, and what a run leaves on disk."""
