"""Methods around a method: they train it in another way, or with terms of their own."""
