"""How a study is run: command line, graph of notebooks, Snakemake, GPUs, Slurm."""
