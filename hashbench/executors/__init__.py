"""Executors: the runs of a sweep computed by this process, or by others here or on other machines."""
