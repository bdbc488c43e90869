"""Data sets of users and items: who rated, bought or saw what; MovieLens, and files of the user's own."""
