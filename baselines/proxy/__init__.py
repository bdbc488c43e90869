"""Methods whose loss compares outputs with a vector of each class: fixed, learned, or the mean of its samples."""
