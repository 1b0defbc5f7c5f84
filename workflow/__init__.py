"""How the study is run: command line, graph of notebooks, Snakemake, GPUs, Slurm. It uses the library; nothing uses it."""
