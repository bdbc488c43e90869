"""`python -m hashbench` is the command `hashbench`."""

from hashbench.cli import main

main()
