"""`hashbench export`: results, codes and models in forms to take along."""

from __future__ import annotations

from pathlib import Path

import click

from hashbench.cli.base import command, warn
from hashbench.errors import HashbenchError


@command(
    "hashbench export runs results.csv",
    "hashbench export runs/fashion-mnist-10k@5k/crh/32b/s0-* codes.npz",
    "hashbench export runs/fashion-mnist-10k@5k/crh/32b/s0-* database.faiss",
    "hashbench export runs/fashion-mnist-10k@5k/crh/32b/s0-* crh.zip",
)
@click.argument("runs", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--part", type=click.Choice(["query", "database"]), default="database",
              help="The part whose codes a file of one array holds.")  # fmt: skip
def export(runs: Path, file: Path, part: str) -> None:
    """Write the contents of RUNS to FILE; the ending of FILE chooses the form.

    .csv: every measure of every run, one a line. Of one run: .npz, all codes; .npy, those of one part; .faiss, a
    binary FAISS index of one part; .zip, a bundle of weights, result and model card, which hashbench loads like a run.
    """
    from hashbench.results import export as exporting
    from hashbench.results.bundle import write_bundle
    from hashbench.results.runs import RunDirectory, finished_runs
    from hashbench.results.sweeps.estimates import plural

    if file.suffix == ".csv":
        results, problems = finished_runs(runs)
        warn(problems)
        lines = exporting.write_csv(results, file)
        click.echo(f"{file}: {lines:,} {plural('line', lines)} from {len(results):,} {plural('run', len(results))}.")
    elif file.suffix in exporting.CODE_ENDINGS:
        chosen: exporting.Part = "query" if part == "query" else "database"
        click.echo(exporting.write_codes(RunDirectory(runs), file, chosen))
    elif file.suffix == ".zip":
        size = write_bundle(RunDirectory(runs), file)
        click.echo(f"{file}: {size / 1e6:,.1f} MB; hashbench.load and `hashbench encode` take it like a run.")
    else:
        known = ", ".join((".csv", *exporting.CODE_ENDINGS, ".zip"))
        raise HashbenchError(f"'{file}' does not say what to write; give it one of the endings {known}.")
