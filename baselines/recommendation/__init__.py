"""Methods for recommendation: codes of users and items from the pairs of them, and rows to read the others by."""
