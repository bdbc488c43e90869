"""The command line: one function per command; what a command needs is imported inside it, so that --help is quick."""

from hashbench.cli import catalogue, codes, keeping, sweeps, tables
from hashbench.cli.base import main

__all__ = ["catalogue", "codes", "keeping", "main", "sweeps", "tables"]
