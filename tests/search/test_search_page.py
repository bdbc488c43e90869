"""The page of a search, and the commands that make it."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hashbench


@pytest.fixture
def indexed(run, cli):
    """An index of eight pictures in the folder where commands run; one has a name that a page must escape."""
    for place in range(8):
        Path("photos").mkdir(exist_ok=True)
        name = "<script>alert(1)<script>" if place == 3 else str(place)
        Image.fromarray(np.full((300, 200, 3), 30 * place, np.uint8)).save(f"photos/{name}.png")
    said = cli("index", run, "photos", "-o", "shop.hashindex").stdout
    assert re.fullmatch(r"shop.hashindex: 8 images, \d+\.\d MB; 8 encoded now\.\n", said)
    return Path("shop.hashindex")


def test_the_commands(indexed, cli):
    assert "8 images" in cli("index", indexed, "photos").stdout
    said = cli("search", indexed, "photos/0.png", "photos/7.png", "--top", "2", "--html", "new/page.html").stdout
    assert said.count("nearest of 8 images") == 2
    assert re.search(r"^1 +0 +0\.png$", said, re.MULTILINE)
    assert Path("new/page.html").is_file()
    assert "give one with -o" in cli("index", "photos", "photos", code=2).stderr
    assert "There is no none.hashindex" in cli("search", "none.hashindex", "photos/0.png", code=2).stderr
    assert "cannot be used: it is cut short, or no" in cli("search", "photos/0.png", "photos/0.png", code=2).stderr


@pytest.mark.parametrize("name", ["shop.hashindex", "photos/0.png", "page"])
def test_a_page_writes_over_no_index_and_no_photo(indexed, cli, name):
    before = Path(name).read_bytes() if Path(name).exists() else None
    said = cli("search", indexed, "photos/0.png", "--html", name, code=2).stderr
    assert f"{name} names no page; give --html a file that ends in .html." in said
    assert (Path(name).read_bytes() if Path(name).exists() else None) == before


def test_gone_images_and_broken_ones_are_said(indexed, cli):
    Path("photos/2.png").unlink()
    Path("photos/cut.png").touch()
    ran = cli("index", indexed, "photos", "--skip-broken")
    assert "1 image of photos are gone and stay in the index; --drop-gone" in ran.stderr
    assert "1 image could not be decoded" in ran.stderr
    assert "7 images" in cli("index", indexed, "photos", "--skip-broken", "--drop-gone").stdout


def test_a_source_that_has_changed_since_the_run_is_said(indexed, changed, cli):
    said = "the method's source has changed since, but not its version; --rerun stale runs it again, and codes made now"
    assert cli("encode", indexed, "photos").stderr == cli("search", indexed, "photos/0.png").stderr == ""
    assert f"Warning: {changed}: {said}" in cli("encode", changed, "photos").stderr
    with pytest.warns(UserWarning, match=f"^{changed}: {said}"):
        cli("index", changed, "photos", "-o", "other.hashindex")
    assert f"Warning: other.hashindex: {said}" in cli("search", "other.hashindex", "photos/0.png").stderr
    pytest.importorskip("onnxruntime")
    assert f"Warning: {changed}: {said}" in cli("export", changed, "model.onnx").stderr


def test_dropped_images_are_counted(indexed, cli):
    Path("photos/2.png").unlink()
    said = cli("index", indexed, "photos", "--drop-gone").stdout
    assert re.fullmatch(r"shop.hashindex: 7 images, \d+\.\d MB; 0 encoded now, 1 dropped\.\n", said)
    before, _ = indexed.read_bytes(), Path("photos").rename("moved")
    assert "photos; name one with images" in cli("index", indexed, "photos", code=2).stderr
    assert "delete the file instead" in cli("index", indexed, "photos", "--drop-gone", code=2).stderr
    assert indexed.read_bytes() == before
    assert not Path(".shop.hashindex.encoding").exists()


def test_the_page_loads_nothing_and_escapes_names(indexed):
    index = hashbench.open_index(indexed)
    Path("photos/5.png").write_text("no image any more")
    page = hashbench.search_page(index, index.search(["photos/0.png"], top=8, rerank=True), title="<b>")
    assert page.count("data:image/jpeg;base64,") == 8  # the photo and seven others
    assert "cannot be decoded: cannot identify image file" in page
    assert "changed since it was indexed" in page
    assert "<title>&lt;b&gt;</title>" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "default-src 'none'" in page
