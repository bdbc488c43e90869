"""Conditions: how the query images of a finished run are changed before they are encoded again."""
