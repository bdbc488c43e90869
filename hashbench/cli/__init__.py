"""The command line: one function per command; what a command needs is imported inside it, so that --help is quick."""

from hashbench.cli import catalogue, codes, data, keeping, pictures, sweeps, tables
from hashbench.cli.base import main

__all__ = ["catalogue", "codes", "data", "keeping", "main", "pictures", "sweeps", "tables"]
