"""Results: run directories, and the tables, figures and reports made from them."""
