"""Code of other suites: classes by target, their loss classes as methods, and our methods as loss classes for them."""
