"""How anything reaches the disk: whole files, strict JSON, tensors, the cache folder, and locks of folders."""
