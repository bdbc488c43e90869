"""Networks that learn without labels: from features of the same images, or from several views of each."""
