"""The machine and chance: processes, memory, the allocator, seeds, and where a number comes from."""
