"""Fill holes in one's own photographs with a trained network."""
