"""Experiments: identity and settings, the plan of a sweep, one experiment through its phases, and the sweep loop."""
