"""The machine and its randomness: ranks, memory, the allocator, seeds and provenance."""
