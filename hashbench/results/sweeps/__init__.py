"""Sweeps on disk: where each run stands, how far all are, and how long the rest takes."""
