"""Tables: results in blocks, rows and cells, with baselines, tests and published numbers, in five formats."""
