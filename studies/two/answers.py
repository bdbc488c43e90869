"""The tables of study.md that are no tables of `hashbench compare`.

    python studies/two/answers.py families RUNS
    python studies/two/answers.py rates RUNS
    python studies/two/answers.py measures RUNS
    python studies/two/answers.py predictors RUNS CODES.csv
    python studies/two/answers.py outputs CODES.csv
    python studies/two/answers.py seconds RUNS

RUNS are results of this study; CODES.csv is what codes.py writes. A row counts in a column where it has all seeds that
the column's rows have.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr, ttest_ind
from tabulate import tabulate

from hashbench.results.result import Result
from hashbench.results.runs import find_runs
from hashbench.results.studies import Study, find_studies

FIXED = "features"
OTHER_MEASURES = ("mAP@1000/hits", "mAP@1000/R", "mAP@1000/min", "P@100", "P@H<=2")
PREDICTORS = ("separation", "bit_balance", "bit_correlation", "distinct_codes", "tied_share")
OF_CODES = ("entropy", "order")


def runs(folder: Path) -> pd.DataFrame:
    """Return a line for each tested run on fixed features: where it stands, its measures, its codes, its time."""
    found, problems = find_runs([folder])
    if problems:
        raise SystemExit(problems[0])
    tested = [result for result in found if result.coords["evaluated"] == "test" and result.coords["inputs"] == FIXED]
    return pd.DataFrame([line(result) for result in tested if "condition" not in result.coords])


def line(result: Result) -> dict[str, object]:
    """Return what the tables need of a run."""
    coords = result.coords
    fields = ", ".join(f"{name}={value}" for name, value in coords["fields"].items())
    low, high = result.bounds["mAP@all"]
    return {
        "id": result.id,
        "dataset": f"{coords['dataset']}@{coords['protocol']}",
        "recipe": coords["recipe"].partition("(")[0],
        "row": f"{coords['method']} ({fields})" if fields else coords["method"],
        "family": result.provenance["family"],
        "labels": result.provenance["labels"],
        "bits": coords["bits"],
        "seed": coords["seed"],
        "train": result.time["prepare"] + result.time["train"],
        "beside": result.provenance.get("trained_beside"),
        "mAP@all": result.metrics["mAP@all"],
        "bounds": high - low,
        **{name: result.metrics.get(name) for name in OTHER_MEASURES},
        **{name: result.code_stats.get(name) for name in PREDICTORS},
    }


def families(table: pd.DataFrame) -> str:
    """Return the best row of each family in each column, and Welch's test of the best family's against the next."""
    rows = []
    for (dataset, bits), column in columns(table):
        means = column.groupby(["family", "row"])["mAP@all"].mean()
        best = means.groupby(level="family").idxmax()
        order = sorted(best, key=lambda place: -means[place])
        first_two = [column[column["row"] == row]["mAP@all"] for _, row in order[:2]]
        p = ttest_ind(*first_two, equal_var=False).pvalue if len(first_two) == 2 else np.nan
        cells = {family: f"{row} {means[family, row]:.3f}" for family, row in order}
        cells[order[0][0]] = f"**{cells[order[0][0]]}**"
        rows.append({"data set": dataset, "bits": bits, **cells, "p, first two": f"{p:.2g}"})
    return printed(rows)


def rates(folder: Path) -> str:
    """Return the measure on validation queries for each learning rate that was tried, of every row."""
    rows = []
    for found in find_studies(folder):
        study = Study.read(found)
        base = study.subject["base"]
        tried = {float(trial.settings["recipe.learning_rate"]): trial.value for trial in study.trials}
        known = {rate: value for rate, value in tried.items() if value is not None}
        if not known:
            continue
        best = max(known, key=lambda rate: known[rate])
        cells = {f"{rate:g}": value for rate, value in sorted(tried.items())}
        cells = {name: f"**{value:.3f}**" if float(name) == best else f"{value:.3f}" for name, value in cells.items()}
        loss = 1 - known.get(0.001, np.nan) / known[best]
        data = f"{base['data']['dataset']}@{base['data']['protocol']}"
        rows.append({"data set": data, "row": base["method"]["name"], **cells, "lost at 0.001": f"{loss:.0%}"})
    return printed(sorted(rows, key=lambda row: (row["data set"], row["row"])))


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


def outputs(codes: pd.DataFrame) -> str:
    """Return mAP@all of codes, of the outputs whose signs they are, and of the fixed features, on the same queries."""
    known = codes.dropna(subset=["outputs"])
    found = known.groupby(["dataset", "bits", "row"])[["codes", "outputs", "features"]].mean().reset_index()
    found["codes / outputs"] = found["codes"] / found["outputs"]
    return printed(found.sort_values(["dataset", "bits", "codes"], ascending=[True, True, False]).to_dict("records"))


def seconds(table: pd.DataFrame) -> str:
    """Return the seconds of a training and the measure of every row, the fastest first."""
    rows = []
    for dataset, part in table.groupby("dataset"):
        part = part[part["bits"] == 32]
        means = part.groupby("row")[["train", "mAP@all"]].mean().sort_values("train")
        best = means["mAP@all"].cummax()
        rows += [
            {
                "data set": dataset,
                "row": row,
                "seconds": f"{train:.1f}",
                "mAP@all": value,
                "best so far": "yes" if value >= best[row] else "",
            }
            for row, train, value in means.itertuples()
        ]
    return printed(rows)


def columns(table: pd.DataFrame) -> list[tuple[tuple[str, int], pd.DataFrame]]:
    """Return the runs of each data set and code length under the recipe `frozen`, of rows with all seeds."""
    found = []
    for place, column in table[table["recipe"] == "frozen"].groupby(["dataset", "bits"]):
        seeds = column.groupby("row")["seed"].nunique()
        found.append((place, column[column["row"].isin(seeds[seeds == seeds.max()].index)]))
    return found


def printed(rows: Sequence[dict[str, object]]) -> str:
    return tabulate(rows, headers="keys", tablefmt="pipe", floatfmt=".3f", missingval="")


OF_RUNS: dict[str, Callable[[pd.DataFrame], str]] = {"families": families, "measures": measures, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=[*OF_RUNS, "rates", "predictors", "outputs"])
    parser.add_argument("source", type=Path, nargs="+")
    options = parser.parse_args()
    first, last = options.source[0], options.source[-1]
    if options.question in OF_RUNS:
        print(OF_RUNS[options.question](runs(first)))
    elif options.question == "rates":
        print(rates(first))
    elif options.question == "predictors":
        print(predictors(runs(first), pd.read_csv(last)))
    else:
        print(outputs(pd.read_csv(last)))


if __name__ == "__main__":
    main()
