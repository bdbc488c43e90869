"""The leaderboard: tracks, rules of entry, ranks with a test of their differences, and the pages that show them."""
