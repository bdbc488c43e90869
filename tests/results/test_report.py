"""The report: one file without network, escaped, its tables sortable, each number with its origin."""

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from hashbench.errors import HashbenchError
from hashbench.results.figures import KINDS
from hashbench.results.gallery import Gallery, Query, Ranking, Shown
from hashbench.results.report import report
from hashbench.results.runs import RunDirectory
from hashbench.results.tables.comparison import Comparison
from hashbench.results.tables.published import PublishedNumber

PIXEL = "data:image/png;base64,AAAA"


class Page(HTMLParser):
    """The elements of a page in order, each with its attributes and the text that it begins with."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.open = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        self.open = True

    def handle_endtag(self, tag):
        self.open = False

    def handle_data(self, data):
        if self.open:
            self.elements[-1][2].append(data)

    def all(self, tag, **wanted):
        return [
            (attrs, "".join(text))
            for name, attrs, text in self.elements
            if name == tag and all(attrs.get(key.rstrip("_")) == value for key, value in wanted.items())
        ]


def pictures(block, label="crh"):
    right, wrong = Shown(PIXEL, "a", 1, relevant=True), Shown(PIXEL, "b", 2, relevant=False)
    return Gallery(32, (Query(Shown(PIXEL, "a"), (Ranking(label, (right, wrong), tied=9, tied_shown=1),)),), ())


@pytest.fixture(autouse=True)
def _few_figures(monkeypatch):
    """Draw two kinds of figures instead of all: what is tested here is the page around them."""
    monkeypatch.setattr("hashbench.results.report.KINDS", {kind: KINDS[kind] for kind in ("pr", "centers")})


@pytest.fixture
def runs(make):
    return [
        make(0.5 + 0.01 * seed, method=m, bits=b, seed=seed)
        for m in ("crh", "csq")
        for b in (16, 32)
        for seed in (0, 1)
    ]


def test_nothing_is_fetched_and_the_policy_allows_nothing(runs):
    page = Page(report(runs, galleries=pictures))
    leads = [
        (tag, attrs[key]) for tag, attrs, _ in page.elements for key in ("src", "href", "xlink:href") if key in attrs
    ]
    assert leads
    assert [lead for lead in leads if not lead[1].startswith(("#", "data:image/png;base64,"))] == []
    assert not re.search(r"@import|url\((?!#)", "".join("".join(text) for _, _, text in page.elements))
    assert {"link", "iframe", "object", "embed", "base", "form"}.isdisjoint(tag for tag, _, _ in page.elements)
    ((policy, _),) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    ((_, script),) = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy["content"]
    assert f"script-src 'sha256-{digest}'" in policy["content"]
    assert not [attrs for _, attrs, _ in page.elements if any(key.startswith("on") for key in attrs)]


def test_hostile_names_change_no_element(make):
    hostile = ["</style><script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "{{ 7 * 7 }}{% raw %}<!--"]

    def skeleton(method, value, dataset):
        result = make(method=method, fields={"f": value}, dataset=dataset, recipe=value)
        result = replace(result, provenance=result.provenance | {"argv": [value], "device_name": method, "threads": 1})
        label = f"{method} (f={value})"
        text = report([result], title=dataset, galleries=lambda block: pictures(block, label))
        return Page(text), text

    page, text = skeleton(*hostile)
    harmless, _ = skeleton(*("x" * len(name) for name in hostile))
    assert [(tag, sorted(attrs)) for tag, attrs, _ in page.elements] == [
        (tag, sorted(attrs)) for tag, attrs, _ in harmless.elements
    ]
    assert page.all("h1")[0][1] == hostile[2]
    assert "alert(1)</script>" not in text


def test_what_turns_the_reading_direction_is_taken_out(make):
    assert "\u202e" not in report([make(method="crh\u202e")])


def test_tables_can_be_sorted_from_the_keyboard(runs):
    page = Page(report(runs))
    tables = page.all("table", class_="sortable")
    assert len(tables) == 2  # measures and cost
    heads = [text for _, text in page.all("button", type="button")]
    assert heads[:3] == ["method", "16 bits", "32 bits"]
    values = [attrs["data-value"] for attrs, _ in page.all("td") if attrs.get("data-value")]
    assert [float(value) for value in values[:4]] == pytest.approx([0.505] * 4)
    ((_, script),) = page.all("script")
    assert '"aria-sort"' in script
    for attrs, _ in page.all("div", class_="scroll"):
        assert attrs["tabindex"] == "0"  # what scrolls can be scrolled without a mouse
        assert attrs["aria-label"]


def test_every_number_leads_to_the_runs_behind_it(runs, stored):
    runs = [stored(run) for run in runs]
    for run in runs:
        RunDirectory(run.path).write_spec({"identity": {"sign": f"spec of {run.id}"}})
    text = report(runs)
    page = Page(text)
    ids = Counter(attrs["id"] for _, attrs, _ in page.elements if "id" in attrs)
    assert max(ids.values()) == 1
    links = [attrs["href"][1:] for attrs, _ in page.all("a")]
    assert len(links) == 4 + 8  # cells, and a line of the cost table for each run
    assert set(links) <= set(ids)
    for run in runs:
        assert run.id in text
        assert f"spec of {run.id}" in text


def test_the_origin_of_a_number_is_told_as_it_was_typed(make):
    origin = {"argv": ["hashbench", "run", "--set", "crh.heads=1 2"], "split_sha256": "5" * 64}
    text = report([make(provenance=origin)])
    assert "hashbench run --set &#39;crh.heads=1 2&#39;" in text
    assert "5" * 64 in text


def test_right_and_wrong_differ_in_more_than_colour(runs):
    text = report(runs, galleries=pictures)
    assert re.findall(r'<li class="(\w+)">.*?alt="([^"]+)".*?<span>(.*?)</span>', text) == [
        ("right", "a, right", "✓ 1"),
        ("wrong", "b, wrong", "✗ 2"),
    ]
    assert "1 of 9 at distance 2" in text
    assert "arbitrary" in text


def test_without_images_the_reason_stands_in_their_place(runs):
    def refuse(block):
        raise HashbenchError("The data are on another machine.")

    assert "No images are shown: The data are on another machine." in report(runs, galleries=refuse)
    assert "What a search returns" not in report(runs)


def test_each_block_has_its_own_tables(runs, make):
    page = Page(report([*runs, make(0.1, recipe="finetune")]))
    assert [text for _, text in page.all("h2")] == ["toy@a", "toy@a"]
    values = [attrs["data-value"] for attrs, _ in page.all("td") if "title" in attrs]
    assert values == [*["0.505"] * 4, "0.1"]


def test_a_baseline_and_problems_are_shown(runs, make):
    from hashbench.results.tables.baseline import Baseline

    runs += [make(0.25, method="dpn", bits=32)]
    comparison = Comparison.of(runs, against=Baseline("csq"), problems=["One run is corrupt."])
    text = report(runs, comparison=comparison)
    assert "One run is corrupt." in text
    assert re.findall(r'<br><span class="muted">(.*?)</span>', text) == [
        "±0.0000",
        "±0.0000",
        "−0.2550",
    ]  # as in tables
    assert "baseline" in text


def test_the_same_results_give_the_same_page(runs):
    assert report(runs, galleries=pictures) == report(runs, galleries=pictures)


def test_filters_name_what_the_tables_have(runs, make):
    number = PublishedNumber("arXiv:1", "table 2", "CSQ", "toy@a", "alex_net", 16, "mAP@all", 0.9, "last epoch")
    runs = [*runs, make(dataset="other")]
    page = Page(report(runs, comparison=Comparison.of(runs, published=[number])))
    assert [attrs["name"] for attrs, _ in page.all("select")] == ["method", "dataset", "bits"]
    assert [text for _, text in page.all("option")] == [
        "all",
        "crh",
        "csq",
        "all",
        "toy@a",
        "other@a",
        "all",
        "16",
        "32",
    ]
    assert [attrs["data-dataset"] for attrs, _ in page.all("section", class_="filtered")] == ["toy@a", "other@a"]
    rows = [attrs["data-method"] for attrs, _ in page.all("tr") if "data-method" in attrs and "data-bits" not in attrs]
    assert rows == ["crh", "csq", "csq", "crh"]  # the paper's CSQ among them
    for tag in ("th", "td"):
        assert {attrs["data-bits"] for attrs, _ in page.all(tag) if "data-bits" in attrs} == {"16", "32"}
    cells = [(attrs["data-method"], attrs["data-bits"]) for attrs, _ in page.all("details", class_="cell")]
    assert cells == [("crh", "16"), ("crh", "32"), ("csq", "16"), ("csq", "32"), ("crh", "32")]
    assert "const filters" in page.all("script")[0][1]


def test_without_a_choice_there_is_no_filter(make):
    page = Page(report([make()]))
    assert page.all("select") == []
    assert "const filters" not in page.all("script")[0][1]


def test_figures_of_several_panels_are_there_for_narrow_pages(runs):
    text = report(runs)
    (narrow,) = re.findall(r'<div class="narrow"><svg role="img" aria-label="([^"]+)"', text)
    assert "precision" in narrow.lower()
    assert 'class="narrow"' not in report(runs[:1])
