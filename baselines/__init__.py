"""The methods that hashbench compares with: plug-ins on its public API, found as a stranger's are, by entry points."""
