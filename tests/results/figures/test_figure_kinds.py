"""Every kind of figure: what its lines hold, against brute force, and what it says when the results lack it."""

import re
from dataclasses import replace
from io import BytesIO
from itertools import combinations, permutations
from xml.dom.minidom import parseString

import numpy as np
import pytest
from matplotlib.colors import to_hex

from hashbench.errors import HashbenchError
from hashbench.metrics import histograms, pack
from hashbench.metrics.measures import evaluate_histograms
from hashbench.results.figures import KINDS
from hashbench.results.figures.centers import center_distances
from hashbench.results.figures.codes import code_statistics
from hashbench.results.figures.curves import precision_curves, recall_curves
from hashbench.results.figures.drawing import draw
from hashbench.results.figures.inline import palette, svg_element
from hashbench.results.figures.measures import by_bits, by_seconds
from hashbench.results.figures.style import COLOURS, COLOURS_ON_DARK, save, write
from hashbench.results.figures.training import training_curves
from hashbench.results.report import report
from hashbench.results.runs import RunDirectory


def line(figure, label, panel=0):
    """Return the points (n, 2) of a labelled line."""
    (found,) = [drawn for drawn in figure.axes[panel].get_lines() if drawn.get_label() == label]
    return np.column_stack([found.get_xdata(), found.get_ydata()])


def bars(figure, panel=0):
    """Return the ends of all error bars, low and high by x."""
    segments = [segment for drawn in figure.axes[panel].collections for segment in drawn.get_segments() if len(segment)]
    return {float(x): (low, high) for (x, low), (_, high) in segments}


def test_curves_by_rank_are_the_mean_over_all_orders_of_ties(make):
    random = np.random.default_rng(3)
    query, database = random.random((3, 4)) < 0.5, random.random((6, 4)) < 0.5
    mine, theirs = random.integers(0, 2, 3), np.array([0, 1, 0, 1, 1, 0])
    distances = (query[:, None] != database[None]).sum(axis=2)
    orders = [np.array(order) for order in permutations(range(6))]
    ranked = [[order[np.argsort(row[order], kind="stable")] for order in orders] for row in distances]
    hits = np.array([[np.cumsum(theirs[r] == m) for r in row] for row, m in zip(ranked, mine, strict=True)])
    precision = (hits / np.arange(1, 7)).mean(axis=(0, 1))
    recall = (hits / np.array([(theirs == m).sum() for m in mine])[:, None, None]).mean(axis=(0, 1))

    measured = evaluate_histograms(histograms(pack(query), pack(database), mine, theirs, bits=4), ["PR@k"])
    result = replace(make(), curves=measured.curves)
    for figure, brute in ((precision_curves([result]), precision), (recall_curves([result]), recall)):
        assert line(figure, "crh") == pytest.approx(np.column_stack([np.arange(1, 7), brute]))


def test_a_measure_by_bits_is_the_mean_with_one_sample_deviation(make):
    values = {16: (0.2, 0.5, 0.8), 32: (0.7,)}
    figure = by_bits([make(v, bits=bits, seed=seed) for bits, vs in values.items() for seed, v in enumerate(vs)])
    assert figure.axes[0].get_ylabel() == "mAP@all"
    # By hand: the deviations are -.3, 0 and .3, so the sample variance is .18 / 2.
    assert bars(figure) == {16.0: pytest.approx((0.2, 0.8))}
    drawn = figure.axes[0].containers[0].lines[0]
    assert drawn.get_xdata().tolist() == [16, 32]
    assert drawn.get_ydata().tolist() == pytest.approx([0.5, 0.7])


def test_another_measure_comes_from_the_histograms(make, stored):
    n, r = np.array([[1, 2, 0], [0, 2, 1]]), np.array([[1, 0, 0], [0, 1, 0]])
    result = stored(make(bits=2), n=n, r=r)
    drawn = by_bits([result], measure="R@H1").axes[0].containers[0].lines[0]
    assert drawn.get_ydata().tolist() == [1.0]
    with pytest.raises(HashbenchError, match="Unknown measure 'mAP@x'"):
        by_bits([result], measure="mAP@x")
    with pytest.raises(HashbenchError, match="No run on toy@a can be drawn"):
        by_bits([replace(result, path=None)], measure="R@H1")


def test_seconds_are_those_of_preparation_and_training(make):
    runs = [replace(make(0.4, seed=s), time={"data": 99.0, "prepare": 2.0, "train": 3.0 + s}) for s in range(2)]
    assert line(by_seconds(runs), "crh").tolist() == [[5.0, 0.4], [6.0, 0.4]]


def test_seconds_of_different_machines_are_said_not_to_compare(make):
    def caption(*names):
        runs = [make(seed=s, provenance={"device_name": name, "threads": 1}) for s, name in enumerate(names)]
        return " ".join(by_seconds(runs).get_supxlabel().split())

    assert "on cpu-a, 1 thread," in caption("cpu-a", "cpu-a")
    assert "not comparable" in caption("cpu-a", "cpu-b")


def test_code_statistics_have_a_panel_each(make):
    runs = [replace(make(bits=bits), code_stats={"bit_balance": 0.9, "bit_correlation": 4 / bits}) for bits in (16, 32)]
    figure = code_statistics(runs)
    drawn = [axes.containers[0].lines[0].get_ydata().tolist() for axes in figure.axes]
    assert drawn == [[0.9, 0.9], [0.25, 0.125]]


def test_center_distances_stand_over_the_similarity_of_their_classes(make, stored):
    result = stored(make(bits=6))
    random = np.random.default_rng(0)
    centers, features = random.random((5, 6)) < 0.5, random.normal(size=(5, 3))
    similarity = features @ features.T
    RunDirectory(result.path).write_arrays("centers", centers=pack(centers), similarity=similarity)
    figure = center_distances([result])
    pairs = list(combinations(range(5), 2))
    brute = sorted((similarity[a, b], sum(centers[a] != centers[b]) / 6) for a, b in pairs)
    points, joined = (np.column_stack([drawn.get_xdata(), drawn.get_ydata()]) for drawn in figure.axes[0].get_lines())
    assert points[np.argsort(points[:, 0])] == pytest.approx(np.array(brute))
    assert joined == pytest.approx(np.array(brute))  # ten pairs, so a tenth is one
    ranks = [
        [sum(other < v for other in values) + (values.count(v) - 1) / 2 for v in values]
        for values in zip(*brute, strict=True)
    ]
    assert f"crh  ρ = {np.corrcoef(*ranks)[0, 1]:+.2f}" in figure.axes[0].texts[0].get_text()


def test_equidistant_centers_have_no_rank_correlation(make, stored):
    result = stored(make(bits=4))
    centers = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1]], dtype=bool)
    RunDirectory(result.path).write_arrays("centers", centers=pack(centers), similarity=np.arange(9.0).reshape(3, 3))
    assert center_distances([result]).axes[0].texts[0].get_text() == "crh  ρ = none"


def test_damaged_centers_are_one_sentence(make, stored):
    result = stored(make(bits=4))
    RunDirectory(result.path).write_arrays("centers", centers=np.zeros((3, 9), np.uint8))
    with pytest.raises(HashbenchError, match=r"centers\.npz cannot be drawn"):
        center_distances([result])


def test_training_curves_are_the_log_by_epoch(make, stored):
    runs = [stored(make(seed=seed)) for seed in range(2)]
    for seed, run in enumerate(runs):
        log = RunDirectory(run.path)
        log.append_log({"warning": "no epoch"})
        for epoch in range(3):
            measures = {"measures": {"mAP@all": 0.1 * epoch + 0.2 * seed}} if epoch else {}
            log.append_log({"epoch": epoch, "loss": {"center": 4.0 - epoch + seed, "other": 1.0}, **measures})
    figure = training_curves(runs)
    assert [axes.get_title() for axes in figure.axes] == ["crh: loss", "mAP@all, 32 bits"]
    assert line(figure, "center").tolist() == [[1, 4.5], [2, 3.5], [3, 2.5]]
    assert line(figure, "crh", panel=1) == pytest.approx(np.array([[2, 0.2], [3, 0.3]]))


@pytest.mark.parametrize(
    ("terms", "scale", "labels"),
    [
        ({"pairs": 2.0, "idle": 0.0}, "log", ["pairs", "idle (0)"]),
        ({"pairs": -0.4, "other": 0.1}, "linear", ["pairs", "other"]),
        ({"idle": 0.0}, "linear", ["idle (0)"]),
    ],
)
def test_losses_below_0_are_seen(make, stored, terms, scale, labels):
    run = stored(make())
    for epoch in range(3):
        RunDirectory(run.path).append_log({"epoch": epoch, "loss": terms})
    figure = training_curves([run])
    axes = figure.axes[0]
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    for drawn, (name, value) in zip(labels, terms.items(), strict=True):
        assert drawn.startswith(name)
        assert line(figure, drawn)[:, 1].tolist() == [value] * 3
        assert scale == "log" or low <= value <= high


@pytest.mark.parametrize("kind", KINDS)
def test_what_lacks_is_one_sentence_that_names_it(make, kind):
    bare = replace(make(metrics={}), curves={}, time={})
    drawings, (refusal,) = draw(kind, [bare])
    assert drawings == []
    assert len(str(refusal)) < 300
    endings = ("again.", "along.", "from.", "`hashbench run`.", "`hashbench search-cost`.", 'pgd(eps=8/255)".')
    assert str(refusal).endswith(endings)


def test_blocks_that_may_not_mix_get_a_figure_each(make):
    drawings, refusals = draw("bits", [make(), make(recipe="finetune"), make(metrics={}, dataset="other")])
    assert ["scratch" in drawing.words for drawing in drawings] == [True, False]
    assert len(refusals) == 1


def test_unknown_kinds_and_measures_out_of_place_are_refused(make):
    with pytest.raises(HashbenchError, match="Did you mean 'recall'"):
        draw("recal", [make()])
    with pytest.raises(HashbenchError, match="'pr' shows no measure; bits and robustness and seconds and"):
        draw("pr", [make()], measure="mAP@all")


@pytest.mark.parametrize("kind", ["pr", "bits", "seconds"])
def test_the_same_results_give_the_same_file_whatever_a_name_holds(tmp_path, make, kind):
    hostile = "$x^^$ <b>\x07&amp;</svg>"
    contents = []
    for name in ("a.svg", "b.svg"):
        (drawing,), _ = draw(kind, [make(method=hostile, fields={"f": "</text>\x1b"})])
        save(drawing.figure, tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    parseString(contents[0])  # a strict reader: a stray < or control character ends it


def test_an_inline_figure_takes_the_colours_of_its_page(make):
    (drawing,), _ = draw("pr", [make(method="csq"), make(method="crh")])
    svg = svg_element(drawing.figure, name="one", label='a "b" <c>')
    assert 'aria-label="a &#34;b&#34; &lt;c&gt;"' in svg
    assert "<metadata" not in svg
    assert {"var(--c0)", "var(--c1)", "var(--ink)", "var(--grid)"} <= set(re.findall(r"var\(--\w+\)", svg))
    assert not set(COLOURS) & set(re.findall(r"#[0-9a-f]{6}", svg))
    other = svg_element(drawing.figure, name="two", label="")
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (svg, other)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_an_inline_figure_lies_as_matplotlib_lays_it_out_and_keeps_its_layout(make):
    results = [make(method="csq", bits=bits) for bits in (16, 32)]
    (inline,), _ = draw("pr", results)
    layout = inline.figure.get_layout_engine()
    svg_element(inline.figure, name="one", label="")
    assert inline.figure.get_layout_engine() is layout
    (saved,), _ = draw("pr", results)
    write(saved.figure, BytesIO(), "svg")
    places = [[axes.get_position().bounds for axes in drawing.figure.axes] for drawing in (inline, saved)]
    assert len(places[0]) == 2
    assert np.array(places[0]) == pytest.approx(np.array(places[1]), abs=0.01)


def test_both_palettes_have_every_colour_and_dark_ones_are_legible():
    assert palette(dark=False).count("--c") == palette(dark=True).count("--c") == len(COLOURS)

    def luminance(colour):
        channels = [int(to_hex(colour)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    card = luminance("#1e2127")
    assert all((luminance(colour) + 0.05) / (card + 0.05) > 4.5 for colour in COLOURS_ON_DARK)


def test_runs_of_another_identity_are_left_out_with_a_warning(make):
    started = ({"started": f"2026-01-0{day}T00:00:00+00:00"} for day in (1, 2, 3))
    old, new, other = (
        replace(make(value, id=name * 8, cell=cell, provenance=when, **changed), code_stats={"bit_balance": value})
        for name, value, cell, when, changed in zip(
            "abc", (0.2, 0.6, 0.4), ("1", "2", "3"), started, ({}, {}, {"method": "csq"}), strict=True
        )
    )
    for kind in ("bits", "codes"):
        ((drawing,), refusals) = draw(kind, [old, other, new])
        assert [result.id for result in drawing.block.results] == [other.id, new.id]
        (drawn,) = [bar.lines[0] for bar in drawing.figure.axes[0].containers if bar.get_label() == "crh"]
        assert drawn.get_ydata() == pytest.approx([0.6])
        (problem,) = drawing.problems
        assert re.match(r"crh on .* at \d+ bits has runs which differ in something that no caption names", problem)
        assert not refusals
    ((drawing,), _) = draw("bits", [other, new])
    assert not drawing.problems
    assert "aaaaaaaa" not in report([old, other, new])
    assert "aaaaaaaa" in report([old, other])


def test_under_each_condition_the_newest_runs_alone_are_drawn(make):
    runs = [
        make(value, cell=cell, provenance={"started": cell}, evaluated=f"test, noise(sigma={sigma})")
        for sigma in ("0.1", "0.2")
        for value, cell in ((0.2, "1"), (0.6, "2"))
    ]
    ((drawing,), _) = draw("robustness", runs)
    assert line(drawing.figure, "crh")[:, 1] == pytest.approx([0.6, 0.6])


def test_the_id_of_a_surrogate_is_no_severity(make):
    runs = [
        make(0.5, evaluated=f"test, pgd(eps={eps}/255, surrogate={surrogate})")
        for eps in (2, 8)
        for surrogate in ("31415926", "123e4567")
    ]
    ((drawing,), _) = draw("robustness", runs)
    assert {axes.get_xlabel() for axes in drawing.figure.axes} == {"eps, in 1/255"}


def test_a_term_that_is_0_at_the_longest_length_alone_is_not_called_so(make, stored):
    short, long = stored(make(bits=16)), stored(make(bits=32))
    for run, loss in ((short, {"pairs": 1.0, "idle": 0.5}), (long, {"pairs": 1.0, "idle": 0.0})):
        RunDirectory(run.path).append_log({"epoch": 0, "loss": loss})
    assert line(training_curves([short, long]), "idle").tolist() == [[1, 0.0]]
