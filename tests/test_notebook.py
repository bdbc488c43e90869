"""The notebook of examples/ runs from top to bottom, shows what it says, and is stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "sweep-to-search.ipynb"


def test_the_notebook_is_stored_without_outputs():
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert cells
    assert [cell for cell in cells if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    book = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    codes = ("hashbench.sweep(", "comparison =", "to_pandas()", "draw(", "search(")
    sweep, comparison, frame, figure, answer = (shown_by(book, code) for code in codes)
    assert "csq 16b s0" in sweep["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in sweep  # a bar as a notebook draws it
    assert sweep["text"] == ""
    assert '<figure class="comparison">' in comparison["text/html"]
    assert "<table" in frame["text/html"]
    assert figure["image/png"]
    nearest = [line for line in answer["text"].splitlines() if line.startswith("distance")]
    assert len(nearest) == 5


def shown_by(book, code):
    """What the one cell with this code shows, by kind; printed text and bars together as "text"."""
    (cell,) = (cell for cell in book.cells if cell.cell_type == "code" and code in cell.source)
    shown = {"text": "".join(output.text for output in cell.outputs if output.output_type == "stream")}
    for output in cell.outputs:
        shown |= output.get("data", {})
    return shown
