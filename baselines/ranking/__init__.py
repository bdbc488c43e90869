"""Methods that learn from rankings: triplets of a query, a similar and a dissimilar sample, or whole lists."""
