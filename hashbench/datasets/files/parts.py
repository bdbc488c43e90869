"""The parts of a split by the names that people give their folders, lists and rows."""

#: The names of each part, in lower case; "validation" gives the queries where nothing else does.
PART_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "query", "queries"),
    "database": ("database", "db", "gallery", "retrieval"),
    "validation": ("val", "valid", "validation", "dev"),
}
PART_OF = {name: part for part, names in PART_NAMES.items() for name in names}
