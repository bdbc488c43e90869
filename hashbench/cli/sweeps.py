"""Commands that train: run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli.base import command, data_options, names, warn
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.planning import Cell, Plan


@command(
    "hashbench run --method crh --dataset fashion-mnist-10k --bits 16,32,64",
    "hashbench run --method crh --dataset fashion-mosaic --bits 32 --seeds 5",
    "hashbench run --method crh --dataset fashion-mnist-10k --bits 32 --set crh.reassign=false",
    "hashbench run --method crh --dataset fashion-mnist-10k --bits 16,32 --epochs 5 --dry-run",
)
@click.option("--method", "methods", required=True, metavar="NAME[,NAME]",
              help="Methods; see `hashbench list methods`. Or classes in files: path/file.py:Class.")  # fmt: skip
@click.option("--dataset", "datasets", required=True, metavar="NAME[@PROTOCOL][,...]", help="Data sets and protocols.")
@click.option("--bits", default="16,32,64", metavar="K[,K]", help="Code lengths.")
@click.option("--seeds", default=1, metavar="N", help="Run seeds 0 to N-1.")
@click.option(
    "--recipe", metavar="NAME", help="Training recipe; default: by the size of the images.", show_default=False
)
@click.option("--backbone", metavar="NAME", help="Backbone instead of the recipe's.")
@click.option("--epochs", type=int, metavar="N", help="Epochs instead of the recipe's.")
@click.option("--set", "settings", multiple=True, metavar="OWNER.FIELD=VALUE",
              help="A field of a method (crh.heads=1) or of the recipe (recipe.batch_size=64).")  # fmt: skip
@click.option("--compile", "compiled", is_flag=True, help="Train through torch.compile (recipe.compile=true).")
@click.option("--evaluate-on", type=click.Choice(["test", "validation"]), default="test",
              help="validation: a fifth of train asks, the rest is trained on and searched.")  # fmt: skip
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), help="Where results are kept.")
@data_options
@click.option("--dry-run", is_flag=True, help="Show what would be run, and run nothing.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def run(
    methods: str,
    datasets: str,
    bits: str,
    seeds: int,
    recipe: str | None,
    backbone: str | None,
    epochs: int | None,
    settings: tuple[str, ...],
    compiled: bool,
    evaluate_on: str,
    device: str,
    runs_dir: Path,
    data_dir: Path | None,
    accept_unofficial: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Train methods on data sets at several code lengths, evaluate them, and keep the results.

    Finished runs are loaded, not repeated; an interrupted run goes on from its last epoch.
    """
    from hashbench.experiment import parse_bits, parse_settings

    lengths = parse_bits(bits)  # what costs nothing to check is checked before torch is imported
    overrides = parse_settings((*settings, "recipe.compile=true") if compiled else settings)
    method_names, dataset_names = names("--method", methods), names("--dataset", datasets)

    from hashbench import planning, runner
    from hashbench.results.table import Comparison

    shared = planning.Settings(
        recipe=recipe,
        backbone=backbone,
        epochs=epochs,
        overrides=overrides,
        evaluate_on=evaluate_on,
        device=device,
        runs_dir=runs_dir,
        data_dir=data_dir,
        accept_unofficial=accept_unofficial,
        progress=not quiet and sys.stderr.isatty(),
    )
    plan = planning.plan(method_names, dataset_names, lengths, seeds=seeds, settings=shared)
    if len(plan.cells) == 1 and plan.cells[0].skipped is not None:
        raise HashbenchError(f"{plan.cells[0]}: {plan.cells[0].skipped}")
    if dry_run:
        click.echo(_plan_table(plan))
        return
    for cell in plan.cells:
        if cell.skipped is not None:
            click.echo(f"skipped: {cell}: {cell.skipped}", err=True)
    outcome = runner.execute(plan, on_cell=_announce)
    if outcome.results:
        comparison = Comparison.of(outcome.results)
        warn(comparison.problems)
        click.echo(comparison.render("text"))
        click.echo(f"Results are in {runs_dir}; `hashbench compare {runs_dir}` shows them again.")
    outcome.raise_first_failure()
    if not outcome.results:
        raise HashbenchError("Every cell was skipped, so there is nothing to show; the reasons stand above.")


def _announce(cell: Cell, at: int, of: int) -> None:
    if cell.state != "skipped":
        what = "already finished" if cell.state == "finished" else f"-> {cell.directory and cell.directory.path}"
        click.echo(f"[{at}/{of}] {cell} {what}", err=True)


def _plan_table(plan: Plan) -> str:
    from tabulate import tabulate

    rows = [
        [c.dataset, c.method, c.bits, c.seed, c.state, c.skipped or (c.directory and c.directory.path)]
        for c in plan.cells
    ]
    return tabulate(rows, headers=["data set", "method", "bits", "seed", "state", "where, or why not"])
