"""From a run of the grid to trained networks on disk: the loop, its fast step, and what it leaves behind."""
