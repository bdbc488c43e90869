"""What runs leave behind: their directories, and the tables and figures made from them."""
