"""One file for each family of data sets, its protocols as TOML beside it, and data of the user's own."""
