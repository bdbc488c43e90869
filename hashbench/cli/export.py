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
    "hashbench export runs/fashion-mnist-10k@5k/crh/32b/s0-* crh.onnx",
)
@click.argument("runs", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--part", type=click.Choice(["query", "database"]), default="database",
              help="The part whose codes a file of one array holds.")  # fmt: skip
@click.option("--method", metavar="TARGET", help="For .onnx: the run's method, where it is in a module or file.")
@click.option("--backbone", metavar="TARGET", help="For .onnx: the run's backbone, where it is in a file.")
def export(runs: Path, file: Path, part: str, method: str | None, backbone: str | None) -> None:
    """Write the contents of RUNS to FILE; the ending of FILE chooses the form.

    .csv: every measure of every run, one a line. Of one run: .npz, all codes; .npy, those of one part; .faiss, a
    binary FAISS index of one part; .zip, a bundle of weights, result and model card, which hashbench loads like a run;
    .onnx, its model, images in and codes out.
    """
    from hashbench.results import export as exporting
    from hashbench.results.bundle import write_bundle
    from hashbench.results.finding import finished_runs
    from hashbench.results.runs import RunDirectory, refuse_file_of_a_run
    from hashbench.results.sweeps.estimates import plural

    refuse_file_of_a_run(file)
    if file.suffix == ".csv":
        results, problems = finished_runs(runs)
        warn(problems)
        lines = exporting.write_csv(results, file)
        click.echo(f"{file}: {lines:,} {plural('line', lines)} from {len(results):,} {plural('run', len(results))}.")
    elif file.suffix in exporting.CODE_ENDINGS:
        chosen: exporting.Part = "query" if part == "query" else "database"
        click.echo(exporting.write_codes(RunDirectory(runs), file, chosen))
    elif file.suffix == ".onnx":
        from hashbench.experiments.runner import load_with_result
        from hashbench.networks.onnx_export import write_onnx

        model, result, changed = load_with_result(runs, method=method, backbone=backbone, device="cpu")
        warn(changed)
        trained = {key: str(result.coords[key]) for key in ("method", "dataset", "protocol", "backbone", "seed")}
        click.echo(write_onnx(model, file, {"id": result.id, **trained}))
    elif file.suffix == ".zip":
        size = write_bundle(RunDirectory(runs), file)
        click.echo(f"{file}: {size / 1e6:,.1f} MB; hashbench.load and `hashbench encode` take it like a run.")
    else:
        known = ", ".join((".csv", *exporting.CODE_ENDINGS, ".onnx", ".zip"))
        raise HashbenchError(f"'{file}' does not say what to write; give it one of the endings {known}.")
