"""Prepared stores: image files decoded once into mapped arrays with their hashes, splits and audits."""
