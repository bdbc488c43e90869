"""Databases larger than memory: rows of files, shards counted by worker processes, and their counts in files."""
