"""What the tests of prepared stores share."""

import sys
from pathlib import Path

from hashbench.datasets.prepared import opening
from hashbench.datasets.prepared.building import prepare

HERE = Path(__file__).parent


def ready(data_dir, **options):
    return prepare("tree", data_dir=data_dir, progress=False, **options)


def contents(folder):
    """Return the files by name, without the note of when the inputs were last read."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != opening.CHECKED}


def stores():
    return sorted(path.name for path in opening.prepared_root().iterdir() if not path.name.startswith("."))


def command(code, *arguments):
    """Return a command that runs `code` with the tree registered, as another process."""
    start = f"import sys; sys.path.insert(0, {str(HERE)!r}); import image_trees; from pathlib import Path\n"
    return [sys.executable, "-c", start + code, *map(str, arguments)]


PREPARE = """
image_trees.register_tree(Path(sys.argv[1]), count=int(sys.argv[3]))
from hashbench.datasets.prepared import building
building.CHUNK_BYTES = 4 * 3 * 16 * 16
building.prepare("tree", data_dir=sys.argv[2], progress=False)
"""
