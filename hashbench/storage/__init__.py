"""Storage: files written whole, strict JSON, tensors, the cache folder, and locks of folders."""
