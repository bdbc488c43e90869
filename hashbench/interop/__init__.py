"""Code from elsewhere: classes by target, loss classes of other suites as methods, and our methods as losses."""
