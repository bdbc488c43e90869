"""`hashbench check`: the contract of methods as checks on toy runs, and a verdict that people read."""
