"""Fill holes in photographs with a trained network."""
