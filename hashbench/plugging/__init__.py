"""Methods from strangers: targets, loss classes of another shape in both directions, and the check of the contract."""
