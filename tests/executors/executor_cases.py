"""What tests of executors share."""

from hashbench.experiments.runner import Reporter


class Calls(Reporter):
    """A reporter whose methods are given: `Calls(ended=lambda run, error: ...)`."""

    def __init__(self, **methods):
        vars(self).update(methods)
