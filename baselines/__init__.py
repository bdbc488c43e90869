"""The methods that hashbench compares with: plug-ins on its public API, found by entry points as any plug-in is."""
