"""Training: the epoch loop, what methods learn from, and measures of a training under way."""
