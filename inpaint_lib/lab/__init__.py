"""What moves in JupyterLab: the live view of a training, and the explorer of notebook 40."""
