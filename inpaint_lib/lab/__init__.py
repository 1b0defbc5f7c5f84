"""The live picture of a training, and the explorer of notebook 40."""
