"""Rows that are no hashing method of the field, for reference in tables."""
