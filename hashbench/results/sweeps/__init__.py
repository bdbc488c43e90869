"""Sweeps on disk: the status of each run, the progress of all, and estimates of the time left."""
