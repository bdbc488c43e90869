"""Executors: the cells of a sweep computed by other processes, here or on other machines, on engines that exist."""
