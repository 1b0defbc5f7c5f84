"""Fill holes in a user's photographs with a trained network."""
