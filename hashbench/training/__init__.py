"""Training: the epoch loop, what methods learn from, and measures during training."""
