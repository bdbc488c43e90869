from dataclasses import replace

import pytest

from hashbench.errors import HashbenchError
from hashbench.results.figures.curves import pr_curves
from hashbench.results.figures.style import COLOURS, colour_of, save, stack, styles


def lines(figure):
    """Return {(panel, label): line}."""
    return {(axes.get_title(), line.get_label()): line for axes in figure.axes for line in axes.get_lines()}


def test_one_panel_for_each_code_length_and_one_line_for_each_method(make):
    figure = pr_curves([make(bits=bits, method=method) for method in ("crh", "csq") for bits in (64, 16)])
    assert [axes.get_title() for axes in figure.axes] == ["16 bits", "64 bits"]
    assert set(lines(figure)) == {(f"{bits} bits", method) for bits in (16, 64) for method in ("crh", "csq")}


def test_a_curve_is_the_mean_over_seeds(make):
    ((_, line),) = lines(pr_curves([make(0.2, seed=0), make(0.6, seed=1)])).items()
    assert line.get_xdata().tolist() == [0, 0.5, 1]
    assert line.get_ydata().tolist() == pytest.approx([1, 0.4, 0.1])


@pytest.mark.parametrize("method", ["crh", "somebodys-method"])
def test_a_method_keeps_its_look_in_every_company(make, method):
    def look(others):
        line = lines(pr_curves([*(make(method=other) for other in others), make(method=method)]))["32 bits", method]
        return line.get_color(), line.get_marker(), line.get_linestyle()

    assert look([]) == look(["csq", "dpn"]) == look(["zzz"])


def test_variants_share_the_colour_and_differ_in_the_dashes(make):
    figure = pr_curves([make(fields={"reassign": False}), make()])
    plain, variant = (lines(figure)["32 bits", label] for label in ("crh", "crh (reassign=false)"))
    assert plain.get_color() == variant.get_color()
    assert (plain.get_linestyle(), variant.get_linestyle()) == ("-", "--")


@pytest.mark.parametrize("points", [False, True])
def test_more_variants_than_dashes_differ_in_colour_and_dash(points):
    labels = ["crh", *(f"crh (heads={n:02})" for n in range(1, 20)), "csq", *(f"csq (m={n})" for n in range(1, 7))]
    found = styles(labels, points=points)
    keys = ("color", "marker", "fillstyle") if points else ("color", "linestyle")
    looks = [tuple(found[label][key] for key in keys) for label in labels]
    assert len({*looks}) == len(labels)
    first, later = labels[:4], labels[4:8]
    assert len({found[label]["color"] for label in first}) == 1
    assert {found[label]["color"] for label in first}.isdisjoint(found[label]["color"] for label in later)
    assert not {found[label]["linestyle"] for label in first} & {found[label]["linestyle"] for label in later}
    for label in labels:  # so do the swatches of a page
        assert COLOURS[colour_of(label, labels)] == found[label]["color"]


def test_panels_are_stacked_with_all_that_they_show(make):
    results = [make(bits=bits, method=method) for method in ("crh", "csq") for bits in (16, 32, 64)]
    figure = pr_curves(results)
    caption, drawn = figure.get_supxlabel(), lines(figure)
    assert stack(figure)
    assert lines(figure) == drawn
    places = [axes.get_subplotspec().get_geometry() for axes in figure.axes]
    assert places == [(3, 1, n, n) for n in range(3)]
    assert {axes.get_ylabel() for axes in figure.axes} == {"precision"}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["crh", "csq"]
    assert " ".join(legend.get_title().get_text().split()) == " ".join(caption.split())
    assert figure.get_figwidth() < 4
    assert not stack(pr_curves(results[:1]))


def test_what_may_not_share_a_table_may_not_share_a_figure(make):
    with pytest.raises(HashbenchError, match=r"recipe scratch,.* against .*recipe finetune,.*plot them apart"):
        pr_curves([make(), make(recipe="finetune")])


def test_without_a_curve_there_is_no_figure(make):
    with pytest.raises(HashbenchError, match="no results to draw"):
        pr_curves([])
    with pytest.raises(HashbenchError, match="None of these results holds the curve PR"):
        pr_curves([replace(make(), curves={})])


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("new/b.PDF", b"%PDF"), ("c.svg", b"<?xml")])
def test_figures_are_saved_by_their_ending_and_reproducibly(tmp_path, make, name, start):
    figure = pr_curves([make(method="$x^^$")])
    save(figure, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(start)
    save(figure, tmp_path / name)
    assert (tmp_path / name).read_bytes() == content


def test_other_endings_are_refused(tmp_path, make):
    with pytest.raises(HashbenchError, match=r"'a.jpg'; end the name in .png, .svg or .pdf"):
        save(pr_curves([make()]), tmp_path / "a.jpg")
