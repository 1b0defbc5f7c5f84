"""What a study is: its configuration, its grid of runs and their folders, files and locks,
provenance, devices, processes.
"""
