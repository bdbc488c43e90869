"""Methods that learn from pairs of samples: similar where they share a label."""
