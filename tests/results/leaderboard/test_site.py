"""The pages: links lead somewhere, nothing is fetched, names are escaped, and files are whole."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest
from leaderboard_cases import store_runs

from hashbench.errors import HashbenchError
from hashbench.results.leaderboard import site
from hashbench.results.leaderboard.recomputing import commands
from hashbench.results.leaderboard.site import DATA, INDEX, Leaderboard, write_site
from hashbench.storage.files import write_text

ROOT = Path(__file__).parents[3]
NAME = '<script>alert("x")</script>'


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def values(self, tag, key):
        return [attrs[key] for name, attrs in self.tags if name == tag and key in attrs]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    runs = partial(store_runs, tmp_path_factory.mktemp("board"))
    results = [
        run
        for method, value in (("crh", 0.7), ("csq", 0.6), (NAME, 0.5), ("itq", 0.4))
        for bits in (16, 32)
        for run in runs(value, value + 0.01, value + 0.02, method=method, bits=bits)
    ]
    withheld = {"labels": "withheld", "data_official": False}
    results += runs(0.1, 0.2, 0.3, method="lsh", bits=16, provenance=withheld)
    results += runs(0.1, 0.2, method=NAME, bits=64)
    return Leaderboard.of(results, check=lambda result: [])


@pytest.fixture(scope="module")
def files(board):
    return board.pages(title="ranks & <b>more</b>", paper=lambda method: f"paper of {method}")


def test_all_links_lead_to_files_of_the_site(files):
    links = {name: Page(text).values("a", "href") for name, text in files.items() if name.endswith(".html")}
    assert len(links[INDEX]) == 1 + 5  # the data, and each row
    for name, found in links.items():
        assert found
        for link in found:
            folder = name.rpartition("/")[0]
            assert (link.removeprefix("../") if folder else link) in files, (name, link)
    assert {*links} - {INDEX} == {*links[INDEX]} - {DATA}


def test_the_committed_pages_are_whole():
    folder = ROOT / "docs" / "leaderboard"
    data = json.loads((folder / DATA).read_text())
    rows = [row for ranking in data["rankings"] for row in ranking["rows"]]
    assert {*Page((folder / INDEX).read_text()).values("a", "href")} == {DATA, *(row["page"] for row in rows)}
    assert {path.relative_to(folder).as_posix() for path in (folder / "rows").iterdir()} == {r["page"] for r in rows}
    assert sum(path.stat().st_size for path in folder.rglob("*.*")) < 3_000_000
    ranked = [[row["place"] for row in ranking["rows"] if row["place"]] for ranking in data["rankings"]]
    assert sorted(map(len, ranked))[-2] >= 6
    assert [row["label"] for row in rows if row["not_ranked"]]
    assert all((row["place"] is None) == bool(row["not_ranked"]) for row in rows)  # who has no place is told why
    assert not data["refused"]


def test_nothing_is_fetched_or_run_but_the_pages_own_script(files):
    for name, text in files.items():
        if not name.endswith(".html"):
            continue
        page = Page(text)
        assert {"link", "img", "iframe", "object", "embed", "base", "form"}.isdisjoint(tag for tag, _ in page.tags)
        assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on") or key == "src"]
        assert not re.search(r"@import|url\((?!#)", text)
        ((_, policy),) = [each for each in page.tags if "http-equiv" in each[1]]
        script = re.search(r"<script>(.*)</script>\s*</body>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy["content"]
        assert "default-src 'none'" in policy["content"]


def test_names_are_escaped(files):
    for text in files.values():
        assert NAME not in text.replace('\\"', '"') or text == files[DATA]
    assert NAME in "".join(Page(files[INDEX]).words)
    assert "<b>more</b>" not in files[INDEX]


def test_the_index_is_a_table_without_javascript(files):
    page = Page(files[INDEX])
    ((_, filters),) = [each for each in page.tags if each[1].get("id") == "filters"]
    assert "hidden" in filters  # what does nothing without a script is not shown without one
    assert not [attrs for tag, attrs in page.tags if tag in ("tr", "td", "th", "section") and "hidden" in attrs
                and attrs.get("id") != "filters"]  # fmt: skip
    words = " ".join(page.words)
    for shown in ("0.7100", "Few classes", "Unsupervised", "it has 2 seeds", "mean rank"):
        assert shown in words


def test_a_row_says_what_it_is_and_how_to_compute_it_again(files, board):
    (name,) = [name for name in files if name.startswith("rows/crh-")]
    words = " ".join(Page(files[name]).words)
    for shown in ("paper of crh", "published: equations read", "scale", "8.0", "Place 1 of 4", board.rankings[0].rows[0]
                  .runs[0].id, "hashbench run --method crh --dataset fashion-mnist-10k@5k --bits 16,32 --seeds 3",
                  "hashbench verify runs --strict"):  # fmt: skip
        assert shown in words, shown
    assert "<polyline" in files[name]


def test_unofficial_data_are_marked(files):
    (name,) = [name for name in files if name.startswith("rows/lsh-")]
    assert "files were not the official ones" in files[name]
    assert "†" in re.search(r"lsh</a>([^<]*)", files[INDEX])[1]


def test_the_data_hold_what_the_pages_show(files, board):
    data = json.loads(files[DATA])
    few, unsupervised = data["rankings"]
    assert (few["track"], unsupervised["track"]) == ("few classes", "unsupervised")
    assert [row["label"] for row in few["rows"]] == ["crh", "csq", NAME, "itq"]
    assert [row["mean_rank"] for row in few["rows"]] == [1, 2, 3, 4]
    assert few["test"]["p"] == board.rankings[0].test.p
    (entry, _) = few["rows"][0]["entries"]
    assert (entry["bits"], [run["value"] for run in entry["runs"]]) == (16, pytest.approx([0.7, 0.71, 0.72]))
    assert entry["runs"][0]["run"].startswith("fashion-mnist-10k@5k/crh/16b/s0-")
    assert [each["reasons"] for each in data["refused"]] == [["it has 2 seeds, and an entry needs 3"]]


def test_bars_of_the_diagram_overlap_where_ranks_are_within_the_critical_difference(runs):
    results = [run for place, method in enumerate("abcde") for bits in (8, 16, 32, 64)
               for run in runs(*[0.9 - place / 10] * 3, method=method, bits=bits)]  # fmt: skip
    board = Leaderboard.of(results, check=lambda result: [])
    (ranking,) = board.rankings
    text = board.pages(title="t")[INDEX]
    bars = [(float(a), float(b)) for a, b in
            re.findall(r'<line x1="([\d.]+)" x2="([\d.]+)"[^>]*stroke-width="6"', text)]  # fmt: skip
    assert len(bars) == 5
    apart = {(i, j) for i in range(5) for j in range(i) if bars[j][1] < bars[i][0]}
    difference = ranking.test.difference
    assert apart == {(i, j) for i in range(5) for j in range(i) if i - j > difference}
    assert apart


def test_a_site_is_written_whole_and_again(files, tmp_path):
    folder = tmp_path / "site"
    write_site(files, folder)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.html")} | {DATA} == {*files}
    (folder / "rows" / "mine.html").write_text("not of the leaderboard")
    fewer = Leaderboard.of([], check=lambda result: []).pages(title="t")
    write_site(fewer, folder)
    assert [path.name for path in (folder / "rows").iterdir()] == ["mine.html"]


def test_an_interrupted_site_is_written_by_the_same_command(files, tmp_path, monkeypatch):
    def interrupted(path, text):
        write_text(path, text)
        raise KeyboardInterrupt

    monkeypatch.setattr(site, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_site(files, tmp_path)
    monkeypatch.undo()
    write_site(files, tmp_path)
    assert (tmp_path / INDEX).is_file()


@pytest.mark.parametrize(
    ("name", "text"), [("thesis.txt", "mine"), (DATA, '{"rows": []}'), (DATA, "[1"), (DATA, '{"rankings": 7}')]
)
def test_a_folder_of_something_else_is_left_alone(name, text, files, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(HashbenchError, match="holds files that are no leaderboard"):
        write_site(files, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_no_file_outside_of_the_pages_of_rows_is_removed(files, tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    pages = ["mine.html", "rows/../mine.html", str(tmp_path / "mine.html")]
    (tmp_path / DATA).write_text(json.dumps({"rankings": [{"rows": [{"page": page} for page in pages]}]}))
    write_site(files, tmp_path)
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_without_an_entry_the_page_says_so(runs):
    board = Leaderboard.of(runs(0.5, 0.6), check=lambda result: [])
    assert "No run keeps all rules of entry" in board.pages(title="t")[INDEX]


def test_what_a_row_began_with_is_named_before_it(runs):
    results = [
        replace(run, coords={**run.coords, "start": "csq for 5 epochs"}) for run in runs(0.5, 0.6, 0.7, method="cgat")
    ]
    (row,) = Leaderboard.of(results, check=lambda result: []).rankings[0].rows
    first, run, _ = commands(row)
    assert first == "# first into `runs`: csq for 5 epochs"
    assert "--method cgat --dataset" in run
    assert run.endswith("--start-from runs")
