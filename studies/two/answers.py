"""The tables of study.md that are no tables of `hashbench compare`.

    python studies/two/answers.py rates|summary|rows|families|lengths|heads|published|measures|seconds|draws RUNS
    python studies/two/answers.py outputs|counting|predictors RUNS CODES.csv

RUNS are results of this study, folders or packed files; CODES.csv is what codes.py writes. A row counts in a column
where it has all seeds that the column's rows have.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu, spearmanr, ttest_ind, wilcoxon
from tabulate import tabulate

from hashbench.methods.contract import options
from hashbench.registry import METHODS
from hashbench.results.finding import find_runs
from hashbench.results.result import Result
from hashbench.results.studies import Study, find_studies
from hashbench.results.tables.blocks import label_by_fields
from hashbench.results.tables.published import read_published

FIXED = "features"
OTHER_MEASURES = ("mAP@1000/hits", "mAP@1000/R", "mAP@1000/min", "P@100", "P@H<=2")
HEADS = {"frozen": "linear", "frozen-mlp": "hidden layer"}
CIFAR = {"cifar10@54k": "CIFAR-10", "cifar100@45k": "CIFAR-100"}
NAMES = {
    **CIFAR,
    "cifar10@unseen": "CIFAR-10, unseen classes",
    "cifar100@unseen": "CIFAR-100, unseen classes",
    "fashion-mosaic@4k": "fashion-mosaic",
    "lists:corel5k@given": "Corel5K",
    "cifar10@unsup": "CIFAR-10 without labels",
}
PLACE = ("dataset", "recipe", "bits")
LENGTHS = (16, 32, 64)
MENTIONED = ("crh", "csq", "dpn", "shc", "itq", "lsh")  # in the summary, whatever their place
PAPER = ["source", "where", "dataset", "measure", "bits"]
FAMILIES = ("centers", "proxy", "wrappers", "pairwise", "ranking", "pointwise", "shallow", "unsupervised", "reference")
COUNTED = {"as_lies": "hits", "by_class": "hits", "dcmh": "mAP@1000/min", "train_too": "mAP@all"}  # beside what
PREDICTORS = ("separation", "bit_balance", "bit_correlation", "distinct_codes", "tied_share")
OF_CODES = ("entropy", "order")


def runs(folders: Sequence[Path]) -> pd.DataFrame:
    """Return a line for each tested run on fixed features: where it stands, its measures, its codes, its time."""
    found, problems = find_runs(folders)
    if problems:
        raise SystemExit(problems[0])
    tested = [result for result in found if result.coords["evaluated"] == "test" and result.coords["inputs"] == FIXED]
    return pd.DataFrame([line(result) for result in tested if "condition" not in result.coords])


def line(result: Result) -> dict[str, object]:
    """Return what the tables need of a run."""
    coords = result.coords
    low, high = result.bounds["mAP@all"]
    return {
        "id": result.id,
        "dataset": f"{coords['dataset']}@{coords['protocol']}",
        "recipe": coords["recipe"].partition("(")[0],
        "row": label_by_fields(result).removesuffix(" ()"),
        "method": coords["method"],
        "family": result.provenance["family"],
        "fidelity": result.provenance["fidelity"],
        "labels": result.provenance["labels"],
        "bits": coords["bits"],
        "seed": coords["seed"],
        "train": result.time["prepare"] + result.time["train"],
        "beside": result.provenance.get("trained_beside"),
        "mAP@all": result.metrics["mAP@all"],
        "mAP@100/hits": result.metrics.get("mAP@100/hits"),
        "bounds": high - low,
        **{name: result.metrics.get(name) for name in OTHER_MEASURES},
        **{name: result.code_stats.get(name) for name in PREDICTORS},
    }


def summary(table: pd.DataFrame) -> str:
    """Return mAP@all on CIFAR at 32 bits, mean ± standard deviation over seeds, of the best row of each family in any
    column, and of MENTIONED.
    """
    table = complete(table[table["dataset"].isin(CIFAR) & (table["bits"] == 32)])
    means = table.groupby([*PLACE, "family", "row"])["mAP@all"].mean()
    best_of_family = means.groupby([*PLACE, "family"]).idxmax()
    named = {*MENTIONED, *(row for *_, row in best_of_family)}
    return by_column(table[table["row"].isin(named)], "{mean:.3f} ± {std:.3f}")


def rows(table: pd.DataFrame) -> str:
    """Return mAP@all of every row, mean over seeds; further draws of a split are left out."""
    return by_column(complete(table[table["dataset"].isin(NAMES)]), "{mean:.3f}")


def by_column(table: pd.DataFrame, text: str) -> str:
    """Return mAP@all with a column for each data set, head and code length; its best is bold, references apart."""
    cells = table.groupby([*PLACE, "family", "row"])["mAP@all"].agg(["mean", "std"])
    best = {*cells["mean"].drop("reference", level="family", errors="ignore").groupby([*PLACE]).idxmax()}
    places = [place for place in product(NAMES, HEADS, LENGTHS) if place in cells.index.droplevel(["family", "row"])]
    fidelity = dict(zip(table["row"], table["fidelity"], strict=True))
    lines = []
    for family, row in sorted({*cells.index.droplevel([*PLACE])}, key=lambda pair: (FAMILIES.index(pair[0]), pair[1])):
        texts = {"family": family, "row": row, "fidelity": fidelity[row]}
        for dataset, recipe, bits in places:
            heading = f"{NAMES[dataset]}{', hidden layer' if HEADS[recipe] != 'linear' else ''}, {bits} bits"
            cell = (dataset, recipe, bits, family, row)
            shown = text.format(**cells.loc[cell]) if cell in cells.index else ""
            texts[heading] = f"**{shown}**" if cell in best else shown
        lines.append(texts)
    return printed(lines)


def families(table: pd.DataFrame) -> str:
    """Return the best row of each family in each column, and Welch's test of the best family's against the next."""
    rows = []
    for (dataset, bits), column in columns(table):
        means = column.groupby(["family", "row"])["mAP@all"].mean()
        best = means.groupby(level="family").idxmax()
        order = sorted(best, key=lambda place: (place[0] == "reference", -means[place]))  # which is no family
        first_two = [column[column["row"] == row]["mAP@all"] for _, row in order[:2]]
        p = ttest_ind(*first_two, equal_var=False).pvalue if len(first_two) == 2 else np.nan
        cells = {family: f"{row} {means[family, row]:.3f}" for family, row in order}
        cells[order[0][0]] = f"**{cells[order[0][0]]}**"
        known = {family: cells.get(family, "") for family in FAMILIES if family in table["family"].unique()}
        rows.append({"data set": dataset, "bits": bits, "p, first two": f"{p:.1g}", **known})
    return printed(rows)


def tried(sources: Sequence[Path]) -> pd.DataFrame:
    """Return a line for each learning rate that was tried for a row: its measure on validation queries."""
    studies = (Study.read(folder) for source in sources for folder in find_studies(source))
    lines = []
    for study in {study.id: study for study in studies}.values():
        base = study.subject["base"]
        place = {
            "dataset": f"{base['data']['dataset']}@{base['data']['protocol']}",
            "recipe": "frozen-mlp" if base["recipe"].get("hidden") else "frozen",
            "family": METHODS.get(base["method"]["name"]).info.family,
            "row": tuned_row(base["method"]),
        }
        lines += [
            {**place, "rate": float(trial.settings["recipe.learning_rate"]), "value": trial.value}
            for trial in study.trials
        ]
    return pd.DataFrame(lines)


def rates(sources: Sequence[Path]) -> str:
    """Return the measure on validation queries for each learning rate that was tried, of every row, and the correlation
    of the order of rows at the recipe's rate and at the best one of each.
    """
    rows = []
    for (dataset, recipe), part in tried(sources).groupby(["dataset", "recipe"]):
        place = {"data set": dataset, "head": HEADS[recipe]}
        values = part.pivot(index="row", columns="rate", values="value")
        first_of_best = part.groupby("row")["value"].idxmax()  # of equal ones the first that was tried
        best = part.loc[first_of_best].set_index("row")
        for row, found in values.iterrows():
            cells = {f"{rate:g}": f"{value:.3f}" for rate, value in found.items()}
            cells[f"{best['rate'][row]:g}"] = f"**{best['value'][row]:.3f}**"
            rows.append({**place, "row": row, **cells, "lost at 0.001": f"{1 - found[0.001] / best['value'][row]:.0%}"})
        order = spearmanr(values[0.001], best["value"])
        rows.append(
            {**place, "row": f"rank correlation of 0.001 and the best: {order.statistic:+.2f}, p {order.pvalue:.1g}"}
        )
    return printed(rows)


def tuned_row(method: Mapping[str, Any]) -> str:
    """Return the name of a row by its method in the subject of a study."""
    defaults = {name: option.default for name, option in options(METHODS.get(method["name"])).items()}
    fields = {name: value for name, value in method["fields"].items() if name != "base"}
    changed = {name: value for name, value in fields.items() if value != defaults.get(name, value)}
    words = ", ".join(f"{name}={str(value).lower()}" for name, value in changed.items())
    return f"{method['name']} ({words})" if words else method["name"]


def measures(table: pd.DataFrame) -> str:
    """Return how the order of rows by mAP@all changes by other measures, and how far apart the bounds of ties are."""
    rows = []
    for (dataset, bits), column in columns(table):
        means = column.groupby("row")[["mAP@all", "bounds", *OTHER_MEASURES]].mean()
        ranks = means.rank(ascending=False)
        cells = {}
        for name in OTHER_MEASURES:
            moved = (ranks[name] - ranks["mAP@all"]).abs()
            cells[name] = (
                f"{spearmanr(means['mAP@all'], means[name]).statistic:.2f}, {moved.max():.0f} ({moved.idxmax()})"
            )
        gaps = -np.diff(np.sort(means["mAP@all"])[::-1])
        widest = means["bounds"].idxmax()
        rows.append(
            {
                "data set": dataset,
                "bits": bits,
                "rows": len(means),
                **cells,
                "bounds, median": f"{means['bounds'].median():.4f}",
                "bounds, widest": f"{means['bounds'].max():.3f} ({widest})",
                "gap between neighbours, median": f"{np.median(gaps):.4f}",
            }
        )
    return printed(rows)


def predictors(table: pd.DataFrame, codes: pd.DataFrame) -> str:
    """Return Spearman's correlation of mAP@all, over a column's rows, with what can be said of codes without it."""
    table = table.merge(codes[["id", *OF_CODES]], on="id", how="left")
    rows = []
    for (dataset, bits), column in columns(table):
        for labels, part in (("all", column), ("used", column[column["labels"] == "used"])):
            means = part.groupby("row")[["mAP@all", *PREDICTORS, *OF_CODES]].mean()
            cells = {}
            for name in (*PREDICTORS, *OF_CODES):
                both = means[["mAP@all", name]].dropna()
                test = spearmanr(both["mAP@all"], both[name]) if len(both) > 3 else None
                cells[name] = "" if test is None else f"{test.statistic:+.2f} (p {test.pvalue:.1g})"
            rows.append({"data set": dataset, "bits": bits, "rows with labels": f"{labels} ({len(means)})", **cells})
    return printed(rows)


def outputs(table: pd.DataFrame, codes: pd.DataFrame) -> str:
    """Return mAP@all of codes beside that of the outputs whose signs they are, and of the fixed features, by family.

    All three are on the same queries. Wilcoxon's signed-rank test is of codes against outputs, over rows.
    """
    found = codes.dropna(subset=["outputs"]).merge(table, on="id")
    found["ratio"] = found["codes"] / found["outputs"]
    rows = []
    for (dataset, bits, recipe, family), part in pd.concat([found, found.assign(family="all")]).groupby(
        ["dataset", "bits", "recipe", "family"]
    ):
        row = part.set_index("row")
        rows.append(
            {
                "data set": dataset,
                "bits": bits,
                "head": HEADS[recipe],
                "family": family,
                "rows": len(part),
                "codes, best": f"{row['codes'].max():.3f} ({row['codes'].idxmax()})",
                "outputs, best": f"{row['outputs'].max():.3f} ({row['outputs'].idxmax()})",
                "codes / outputs, median": row["ratio"].median(),
                "lowest": f"{row['ratio'].min():.2f} ({row['ratio'].idxmin()})",
                "highest": f"{row['ratio'].max():.2f} ({row['ratio'].idxmax()})",
                "p": f"{wilcoxon(part['codes'], part['outputs']).pvalue:.1g}",
                "features": row["features"].mean(),
            }
        )
    order = (*FAMILIES, "all")
    return printed(sorted(rows, key=lambda row: (row["data set"], row["head"] != "linear", order.index(row["family"]))))


def counting(table: pd.DataFrame, codes: pd.DataFrame) -> str:
    """Return how far the same codes are from themselves, counted as others do, beside how far rows are apart, and the
    test of Mann and Whitney of the two.
    """
    both = codes.merge(table, on="id")
    rows = []
    for (dataset, bits, recipe), part in both.groupby(["dataset", "bits", "recipe"]):
        for name, beside in COUNTED.items():
            known = part.dropna(subset=[name, beside])
            if known.empty:
                continue
            moved, gaps = (known[name] - known[beside]).abs(), np.diff(np.sort(known[beside]))
            rows.append(
                {
                    "data set": dataset,
                    "bits": bits,
                    "head": HEADS[recipe],
                    "rows": len(known),
                    "counted": name,
                    "beside": "mAP@1000/hits" if beside == "hits" else beside,
                    "moved, median": moved.median(),
                    "moved, most": f"{moved.max():.3f} ({known['row'][moved.idxmax()]})",
                    "order": f"{spearmanr(known[name], known[beside]).statistic:+.3f}",
                    "gap between neighbours, median": f"{np.median(gaps):.4f}",
                    "p, moved and gaps": f"{mannwhitneyu(moved, gaps).pvalue:.1g}",
                }
            )
    return printed(rows)


def lengths(table: pd.DataFrame) -> str:
    """Return how the order of rows changes with the code length: rank correlations, and who rises and falls most."""
    rows = []
    for dataset, column in table[table["recipe"] == "frozen"].groupby("dataset"):
        means = column.pivot_table("mAP@all", "row", "bits").reindex(columns=[*LENGTHS]).dropna()
        if len(means) < 4:
            continue
        ranks = means.rank(ascending=False).astype(int)
        moved = ranks[16] - ranks[64]
        pairs = {f"{a} to {b}": f"{spearmanr(means[a], means[b]).statistic:.2f}" for a, b in combinations(LENGTHS, 2)}
        most = {
            word: f"{row} ({ranks[16][row]} to {ranks[64][row]})"
            for word, row in (("rises most", moved.idxmax()), ("falls most", moved.idxmin()))
        }
        rows.append({"data set": dataset, "rows": len(means), **pairs, **most})
    return printed(rows)


def heads(table: pd.DataFrame) -> str:
    """Return the rows that have both a linear head and one with a hidden layer, and the correlation of their orders."""
    rows = []
    for (dataset, bits), column in table.groupby(["dataset", "bits"]):
        means = column.pivot_table("mAP@all", "row", "recipe").reindex(columns=["frozen", "frozen-mlp"]).dropna()
        if len(means) < 3:
            continue
        ranks = means.rank(ascending=False).astype(int)
        order = spearmanr(means["frozen"], means["frozen-mlp"])
        place = {"data set": dataset, "bits": bits}
        for row in means.sort_values("frozen-mlp", ascending=False).index:
            cells = {HEADS[name]: f"{means[name][row]:.3f} ({ranks[name][row]})" for name in ("frozen-mlp", "frozen")}
            rows.append({**place, "row": row, **cells})
        rows.append({**place, "row": f"rank correlation: {order.statistic:+.2f}, p {order.pvalue:.2g}"})
    return printed(rows)


def published(table: pd.DataFrame) -> str:
    """Return, for each table of a paper under our protocol and measure, how near and in what order rows are here."""
    rows = []
    pairs = published_pairs(table)
    for (source, where, dataset, measure, bits, recipe), part in pairs.groupby([*PAPER, "recipe"], sort=False):
        if len(part) < 4:
            continue
        ours, theirs = part["ours"], part["theirs"]
        order = spearmanr(theirs, ours)
        rows.append(
            {
                "source": f"{source}, {where}",
                "data set": dataset,
                "measure": measure,
                "bits": bits,
                "head here": HEADS[recipe],
                "rows": len(part),
                "ours / theirs": f"{(ours / theirs).min():.2f} to {(ours / theirs).max():.2f}",
                "first there": part["method"][theirs.idxmax()],
                "here": part["method"][ours.idxmax()],
                "from last to first there": float(theirs.max() - theirs.min()),
                "from last to first here": float(ours.max() - ours.min()),
                "order": f"{order.statistic:+.2f} (p {order.pvalue:.1g})",
            }
        )
    return printed(rows)


def published_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of papers that have one of ours, of the plain row, under the same protocol and measure."""
    table = table[table["row"] == table["method"]]
    means = table.groupby(["dataset", "bits", "method", "recipe"]).mean(numeric_only=True)
    family = dict(zip(table["method"], table["family"], strict=True))
    lines = []
    for recipe in HEADS:
        for number in read_published():
            method = number.method.casefold()
            place = (number.dataset, number.bits, method, recipe)
            if place in means.index and number.measure in means:
                numbers = {"theirs": number.value, "ours": means[number.measure][place]}
                lines.append({**vars(number), "method": method, "family": family[method], "recipe": recipe, **numbers})
    return pd.DataFrame(lines, columns=[*PAPER, "recipe", "method", "family", "theirs", "ours"])


def draws(table: pd.DataFrame) -> str:
    """Return, for rows on several draws of a split, the means and how they vary over draws and over seeds.

    Below them the medians over rows. There is no test: the rows share three draws.
    """
    table = table.assign(split=table["dataset"].str.replace(r"-draw\d+", "", regex=True))
    rows = []
    for (split, bits), place in table[table["recipe"] == "frozen"].groupby(["split", "bits"]):
        deviations = []
        for row, part in place.groupby("row"):
            seeds = part.groupby("dataset")["mAP@all"]
            if len(seeds) < 3:
                continue
            deviations.append((seeds.mean().std(), np.sqrt(seeds.var().mean())))
            rows.append(
                {
                    "data set": split,
                    "bits": bits,
                    "row": row,
                    "draws": ", ".join(f"{mean:.3f}" for mean in seeds.mean()),
                    **_deviations(*deviations[-1]),
                }
            )
        if deviations:
            cells = _deviations(*np.median(deviations, axis=0))
            rows.append({"data set": split, "bits": bits, "row": "median", **cells})
    return printed(rows)


def _deviations(over_draws: float, over_seeds: float) -> dict[str, str]:
    return {"deviation over draws": f"{over_draws:.4f}", "over seeds": f"{over_seeds:.4f}"}


def seconds(table: pd.DataFrame) -> str:
    """Return the rows that are better than all that train as fast, at 32 bits, and their seconds of one training."""
    rows = []
    for (dataset, bits), column in columns(table):
        if bits != 32:
            continue
        means = column.groupby("row")[["train", "mAP@all"]].mean().sort_values("train")
        best = means["mAP@all"].cummax()
        frontier = means[means["mAP@all"] >= best]
        rows += [
            {"data set": dataset, "rows": len(means), "row": row, "seconds": f"{train:.1f}", "mAP@all": value}
            for row, train, value in frontier.itertuples()
        ]
        slowest = means["train"].idxmax()
        rows.append(
            {
                "data set": dataset,
                "rows": len(means),
                "row": f"(slowest: {slowest})",
                "seconds": f"{means['train'][slowest]:.1f}",
                "mAP@all": means["mAP@all"][slowest],
            }
        )
        order = spearmanr(means["train"], means["mAP@all"])
        text = f"rank correlation of seconds and mAP@all: {order.statistic:+.2f}, p {order.pvalue:.1g}"
        rows.append({"data set": dataset, "rows": len(means), "row": text})
    return printed(rows)


def columns(table: pd.DataFrame) -> list[tuple[tuple[str, int], pd.DataFrame]]:
    """Return the runs of each data set and code length under the recipe `frozen`, of rows with all seeds.

    Further draws of a split are left out, and lengths at which fewer than four families were run.
    """
    found = []
    shown = table[(table["recipe"] == "frozen") & ~table["dataset"].str.contains("-draw", regex=False)]
    for place, column in shown.groupby(["dataset", "bits"]):
        if column["family"].nunique() >= 4:
            found.append((place, with_all_seeds(column)))
    return found


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the rows that have, in their column, as many seeds as any row of it."""
    return pd.concat([with_all_seeds(column) for _, column in table.groupby([*PLACE])])


def with_all_seeds(column: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the rows that have as many seeds as any row of a column."""
    seeds = column.groupby("row")["seed"].nunique()
    return column[column["row"].isin(seeds[seeds == seeds.max()].index)]


def printed(rows: Sequence[dict[str, object]]) -> str:
    """Return rows as a Markdown table, numbers to three digits; a row may lack columns."""
    shown = [
        {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in row.items()} for row in rows
    ]
    return tabulate(shown, headers="keys", tablefmt="pipe", missingval="", disable_numparse=True)


OF_RUNS: dict[str, Callable[[pd.DataFrame], str]] = {
    each.__name__: each for each in (summary, rows, families, lengths, heads, published, measures, seconds, draws)
}
OF_CODES_TOO: dict[str, Callable[[pd.DataFrame, pd.DataFrame], str]] = {
    each.__name__: each for each in (outputs, counting, predictors)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=["rates", *OF_RUNS, *OF_CODES_TOO])
    parser.add_argument("source", type=Path, nargs="+")
    options = parser.parse_args()
    if options.question == "rates":
        print(rates(options.source))
    elif options.question in OF_RUNS:
        print(OF_RUNS[options.question](runs(options.source)))
    else:
        *folders, codes = options.source
        print(OF_CODES_TOO[options.question](runs(folders), pd.read_csv(codes)))


if __name__ == "__main__":
    main()
