"""The device loader: where inputs lie, how batches reach the device, and how they are augmented there."""
