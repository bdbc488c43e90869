"""Pointwise methods: the loss compares an output with a target of its own class."""
