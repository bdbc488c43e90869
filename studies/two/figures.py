"""The figures of study.md that are no kind of `hashbench plot`.

    python studies/two/figures.py RUNS [RUNS] CODES.csv

RUNS and CODES.csv as answers.py takes them. Writes one SVG for each question beside this file; rows are coloured by
their family.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from answers import CIFAR, COUNTED, FAMILIES, HEADS, columns, published_pairs, runs, tried
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from hashbench.results.figures.style import COLOURS, GREY, INK, STYLE, log_ticks

HERE = Path(__file__).parent
COLOUR_OF = dict(zip(FAMILIES, COLOURS, strict=True))
CLAIMS = ("crh", "crh (reassign=false)", "crh (heads=1)", "csq", "reassigned", "dpn", "dpn (adaptive=true)", "shc")
NAMED = 8  # rows with the highest mAP have their names in a panel, where there is room


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="+")
    *folders, codes = parser.parse_args().source
    table, measured = runs(folders), pd.read_csv(codes)
    families(table)
    scatter("entropy", table.merge(measured, on="id"), "entropy", "mAP@all", "entropy of database codes (nats)")
    outputs = measured.dropna(subset=["outputs"]).merge(table, on="id")
    scatter("outputs", outputs, "outputs", "codes", "mAP@all by real-valued outputs", "mAP@all by codes", equal=True)
    scatter("separation", table, "separation", "mAP@all", "min inter-class / max intra-class distance")
    heads(table)
    published(table)
    claims(table)
    counting(table.merge(measured, on="id"))
    scatter("seconds", table[table["dataset"].isin(CIFAR)], "train", "mAP@all", "seconds of one training", log=True)
    rates(tried(folders))


def families(table: pd.DataFrame) -> None:
    """Draw the best row of each family at each place."""
    places = [(place, column) for place, column in columns(table) if place[1] == 32]
    with figure("families", 1, width=5.0, height=0.4 * len(places) + 1.6) as (axes,):
        for height, ((dataset, _), column) in enumerate(reversed(places)):
            best = column.groupby(["family", "row"])["mAP@all"].mean().groupby(level="family").max()
            for family, value in best.items():
                axes.plot(value, height, "o", color=COLOUR_OF[family], label=family)
            axes.annotate(dataset, (0, height), (-6, 0), textcoords="offset points", ha="right", va="center")
        axes.set(
            xlabel="mAP@all at 32 bits, the best row of each family",
            xlim=(0, None),
            ylim=(-0.6, len(places) - 0.4),
            yticks=[],
        )


def scatter(
    name: str,
    table: pd.DataFrame,
    x: str,
    y: str,
    label: str,
    of_y: str = "mAP@all",
    *,
    equal: bool = False,
    log: bool = False,
) -> None:
    """Draw a point for each row, a panel for each data set at 32 bits."""
    known = table.dropna(subset=[x, y])  # several labels have no separation
    places = [(place, column) for place, column in columns(known) if place[1] == 32 and len(column["row"].unique()) > 5]
    with figure(name, len(places)) as panels:
        for axes, ((dataset, _), column) in zip(panels, places, strict=True):
            if log:
                axes.set_xscale("log")
            points(axes, column.groupby(["family", "row"])[[x, y]].mean().reset_index(), x, y)
            if log:
                log_ticks(axes.xaxis)
            axes.set(xlabel=label, ylabel=of_y, title=dataset)
            if equal:
                axes.axline((0.1, 0.1), slope=1, color=GREY, linewidth=0.8)


def heads(table: pd.DataFrame) -> None:
    """Draw the rows with both heads."""
    means = table.pivot_table("mAP@all", ["dataset", "bits", "family", "row"], "recipe")
    if "frozen-mlp" not in means:
        return
    means = means.dropna(subset=["frozen", "frozen-mlp"]).reset_index()
    with figure("heads", 1, width=4.6, height=4.0) as (axes,):
        points(axes, means, "frozen", "frozen-mlp")
        axes.set(
            xlabel="mAP@all, linear head",
            ylabel="mAP@all, hidden layer of 512",
            title=" ".join(means["dataset"].unique()),
        )


def published(table: pd.DataFrame) -> None:
    """Draw published numbers beside ours of the same protocol and measure, a panel for each measure."""
    pairs = published_pairs(table)
    pairs = pairs[(pairs["bits"] == 32) & (pairs["measure"] == "mAP@1000/hits")]
    shown = [(name, part) for name, part in pairs.groupby(["dataset", "recipe"]) if len(part) > 3]
    with figure("published", len(shown)) as panels:
        for axes, ((dataset, recipe), part) in zip(panels, shown, strict=True):
            points(axes, part.rename(columns={"method": "row"}), "theirs", "ours")
            axes.set(xlabel="mAP@1000/hits at 32 bits, published", ylabel=f"here, {HEADS[recipe]}", title=dataset)


def claims(table: pd.DataFrame) -> None:
    """Draw CRH, its ablations and what it is compared with on CIFAR-100, a panel for each measure and head."""
    table = table[(table["dataset"] == "cifar100@45k") & (table["bits"] == 32)]
    places = list(product(HEADS, ("mAP@all", "P@100")))
    with figure("claims", len(places), width=2.2) as panels:
        for axes, (recipe, measure) in zip(panels, places, strict=True):
            part = table[(table["recipe"] == recipe) & table["row"].isin(CLAIMS)]
            for height, row in enumerate(reversed(CLAIMS)):
                one = part[part["row"] == row]
                axes.errorbar(
                    one[measure].mean(),
                    height,
                    xerr=one[measure].std(),
                    fmt="o",
                    color=COLOUR_OF[one["family"].iloc[0]],
                    label=one["family"].iloc[0],
                )
            axes.set(xlabel=f"{measure}, {HEADS[recipe]}", yticks=range(len(CLAIMS)), yticklabels=reversed(CLAIMS))
            axes.tick_params(labelleft=axes is panels[0])


def counting(table: pd.DataFrame) -> None:
    """Draw how far each row moves where its codes are counted otherwise, with the gap between neighbours as a line."""
    table = table[table["recipe"] == "frozen"]
    places = list(table.groupby("dataset"))
    with figure("counting", len(places), width=3.6, height=2.4) as panels:
        for axes, (dataset, column) in zip(panels, places, strict=True):
            for height, (name, beside) in enumerate(reversed(COUNTED.items())):
                known = column.dropna(subset=[name, beside])
                axes.vlines(np.median(np.diff(np.sort(known[beside]))), height - 0.4, height + 0.4, color=INK)
                for family, part in known.groupby("family"):
                    moved = (part[name] - part[beside]).abs()
                    axes.plot(moved, [height] * len(part), "o", alpha=0.6, color=COLOUR_OF[family], label=family)
            axes.set(xlabel="moved by (line: median gap of rows)", title=dataset, yticks=range(len(COUNTED)))
            axes.set_yticklabels(reversed(COUNTED))


def rates(table: pd.DataFrame) -> None:
    """Draw each row's measure over the learning rate, as a share of its best, a panel for each data set."""
    table = table[(table["recipe"] == "frozen") & table["dataset"].isin(CIFAR)]
    with figure("rates", len(CIFAR)) as panels:
        for axes, (dataset, column) in zip(panels, table.groupby("dataset"), strict=True):
            for (family, _), row in column.sort_values("rate").groupby(["family", "row"]):
                axes.plot(
                    row["rate"], row["value"] / row["value"].max(), alpha=0.7, color=COLOUR_OF[family], label=family
                )
            axes.set(
                xlabel="learning rate",
                ylabel="share of the row's best mAP@all",
                title=dataset,
                xscale="log",
                ylim=(0, None),
            )
            axes.set_xticks(rates := sorted(column["rate"].unique()), [f"{rate:g}" for rate in rates])
            axes.minorticks_off()


def points(axes: Axes, table: pd.DataFrame, x: str, y: str) -> None:
    """Draw rows as points in the colours of their families, the best ones with their names."""
    for family, part in table.groupby("family"):
        axes.plot(part[x], part[y], "o", color=COLOUR_OF[family], label=family)
    axes.autoscale_view()
    places, named = axes.transData.transform(table[[x, y]]), list[Bbox]()
    for _, row in table.nlargest(NAMED, y).iterrows():
        for shift, align in ((4, "left"), (-4, "right")):
            name = axes.annotate(
                row["row"], (row[x], row[y]), (shift, -2), textcoords="offset points", ha=align, fontsize=7, color=GREY
            )
            box = name.get_window_extent()
            if not box.padded(3).count_contains(places) and not box.count_overlaps(named):
                named.append(box)
                break
            name.remove()


@contextmanager
def figure(name: str, panels: int, *, width: float = 3.2, height: float = 3.0) -> Iterator[list[Axes]]:
    """Yield the panels of a figure, which is written with one legend of families."""
    with plt.rc_context(STYLE):
        drawn, axes = plt.subplots(
            1, panels, figsize=(width * panels + 1.4, height), squeeze=False, layout="constrained"
        )
        drawn.draw_without_rendering()  # which lays the panels out
        yield list(axes[0])
        handles = {label: one for each in axes[0] for one, label in zip(*each.get_legend_handles_labels(), strict=True)}
        order = [family for family in FAMILIES if family in handles]
        drawn.legend([handles[family] for family in order], order, loc="outside right upper")
        drawn.savefig(HERE / f"study-{name}.svg", metadata={"Date": None})
        plt.close(drawn)


if __name__ == "__main__":
    main()
