"""`hashbench run`: train methods on data sets, evaluate them, and keep the results."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli import completion
from hashbench.cli.base import command, print_kept, terminal, warn
from hashbench.cli.config import config_option, executor_settings_of, settings_of
from hashbench.cli.options import data_options, dataset_is_there, executor_options, method_is_there, names, size_option
from hashbench.cli.plan_table import plan_table
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.experiments.planned import Rerun


@command(
    "hashbench run --method crh --dataset fashion-mnist-10k --bits 16,32,64",
    "hashbench run --method crh --dataset fashion-mosaic --bits 32 --seeds 5",
    "hashbench run --method crh --dataset fashion-mnist-10k --bits 32 --set crh.reassign=false",
    "hashbench run --method 'crh,crh (reassign=false)' --dataset fashion-mnist-10k --bits 32 --seeds 5",
    "hashbench run --method crh --dataset fashion-mnist-10k --bits 16,32 --epochs 5 --dry-run",
    "hashbench run --method crh,csq --dataset fashion-mnist-10k --bits 16,32 --seeds 5 --dry-run --probe",
    "hashbench run --method cgat --dataset fashion-mnist-10k --bits 32 --epochs 5 --start-from runs",
    "hashbench run --method csq --dataset fashion-mnist-10k --bits 32 --seeds 5 --tuned runs",
    "hashbench run --config sweep.toml --rerun stale",
    "hashbench run --method crh --dataset fashion-mnist-10k --seeds 5 --executor local --workers 2",
)
@config_option
@click.option("--method", "methods", required=True, metavar="NAME[,NAME]", shell_complete=completion.methods,
              help="Methods; see `hashbench list methods`. Also classes in files: path/file.py:Class. Fields for one "
              "row of the table follow in parentheses: 'crh,crh (reassign=false)'.")  # fmt: skip
@click.option("--dataset", "datasets", required=True, metavar="NAME[@PROTOCOL][,...]",
              shell_complete=completion.datasets, help="Data sets and protocols.")  # fmt: skip
@click.option("--bits", default="16,32,64", metavar="K[,K]", help="Code lengths.")
@click.option("--seeds", default=1, metavar="N", help="Run seeds 0 to N-1.")
@click.option(
    "--recipe", metavar="NAME", help="Training recipe; default: by the size of the images.", show_default=False,
    shell_complete=completion.recipes,
)  # fmt: skip
@click.option("--backbone", metavar="NAME", shell_complete=completion.backbones,
              help="Backbone instead of the recipe's: a name (see `hashbench list "
              "backbones`), torchvision:NAME, timm:NAME, or path/file.py:factory.")  # fmt: skip
@click.option("--epochs", type=int, metavar="N", help="Epochs instead of the recipe's.")
@click.option("--set", "settings", multiple=True, metavar="OWNER.FIELD=VALUE",
              help="A field of a method (crh.heads=1) or of the recipe (recipe.batch_size=64).")  # fmt: skip
@click.option("--start-from", type=click.Path(path_type=Path), metavar="RUN", help="Begin with the weights of a "
              "finished run: of the same method, or of the base of one around another, with the same data, backbone, "
              "bits and seed. Of a folder of runs, each run takes the one that fits it.")  # fmt: skip
@click.option("--tuned", type=click.Path(path_type=Path), metavar="STUDY", help="Run with the best settings of a study "
              "of `hashbench tune`. Of a runs directory, each row takes the study that fits it.")  # fmt: skip
@click.option("--tuned-on", metavar="NAME@PROTOCOL", help="Take the studies of another data set or protocol; the "
              "row's name says so.")  # fmt: skip
@click.option("--compile", "compiled", is_flag=True, help="Train through torch.compile (recipe.compile=true).")
@click.option("--evaluate-on", type=click.Choice(["test", "validation"]), default="test",
              help="validation: a fifth of the training images become the queries, the others are training images and "
              "database.")  # fmt: skip
@click.option("--eval-every", type=click.IntRange(min=1), metavar="N",
              help="Log measures every N epochs, for inspection only; see `hashbench plot training`.")  # fmt: skip
@click.option("--log-to", metavar="tensorboard[:FOLDER]",
              help="Write each finished run's training log and measures for TensorBoard: into the run's folder "
              "`tensorboard`, or below FOLDER.")  # fmt: skip
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of the results.")
@data_options
@size_option
@click.option("--rerun", type=click.Choice(["missing", "failed", "stale", "all"]), default="missing",
              help="What to run: runs without a result; only those that failed; also those whose method's source has "
              "changed since; all again.")  # fmt: skip
@executor_options
@click.option("--dry-run", is_flag=True, help="Show the planned runs and their expected time, and run nothing.")
@click.option("--probe", is_flag=True,
              help="With --dry-run: time 20 training steps of each kind of run whose length is unknown.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress bars.")
@click.pass_context
def run(
    context: click.Context,
    methods: str,
    datasets: str,
    bits: str,
    seeds: int,
    recipe: str | None,
    backbone: str | None,
    epochs: int | None,
    settings: tuple[str, ...],
    start_from: Path | None,
    tuned: Path | None,
    tuned_on: str | None,
    compiled: bool,
    evaluate_on: str,
    eval_every: int | None,
    log_to: str | None,
    device: str,
    runs_dir: Path,
    data_dir: Path | None,
    accept_unofficial: bool,
    size: int | None,
    rerun: Rerun,
    executor: str | None,
    workers: int | None,
    executor_settings: tuple[str, ...],
    dry_run: bool,
    probe: bool,
    quiet: bool,
) -> None:
    """Train methods on data sets at several code lengths, evaluate them, and keep the results.

    Finished runs are loaded, not repeated; an interrupted run resumes from its last epoch. Several processes may
    work on one sweep, also from other machines that share the folder: each run is computed once.
    """
    from hashbench.experiments.settings import parse_bits, parse_settings

    lengths = parse_bits(bits)  # what costs nothing to check is checked before torch is imported
    chosen = [*settings_of(context), *settings, *(["recipe.compile=true"] if compiled else [])]
    overrides = parse_settings(chosen)
    if probe and not dry_run:
        raise HashbenchError("--probe belongs to --dry-run, which shows what it finds; give both, or neither.")
    method_names = names("--method", methods, is_there=method_is_there)
    dataset_names = names("--dataset", datasets, is_there=lambda name: dataset_is_there(name, data_dir))

    from hashbench.cli.execution import ProgressLines, executor_of
    from hashbench.datasets.files.downloading import offline
    from hashbench.experiments import runner
    from hashbench.experiments.planned import Settings
    from hashbench.experiments.planning import plan as plan_sweep
    from hashbench.results.scalars import scalars_folder, write_scalars
    from hashbench.results.tables.comparison import Comparison
    from hashbench.system.distributed import world

    scalars = None if log_to is None else scalars_folder(log_to)
    if probe and not world().is_single:
        raise HashbenchError("--probe times the steps of one process; give the command without torchrun.")
    chosen_executor = executor_of(executor, workers, [*executor_settings_of(context), *executor_settings])
    if executor not in (None, runner.SERIAL) and not world().is_single:
        raise HashbenchError(
            "torchrun spreads one run over its processes and --executor many runs over its own; use one of the two."
        )
    shared = Settings(
        recipe=recipe,
        backbone=backbone,
        epochs=epochs,
        overrides=overrides,
        start_from=start_from,
        tuned=tuned,
        tuned_on=tuned_on,
        evaluate_on=evaluate_on,
        device=device,
        runs_dir=runs_dir,
        data_dir=data_dir,
        accept_unofficial=accept_unofficial,
        data_size=size,
        progress=not quiet and sys.stderr.isatty(),
        eval_every=eval_every,
        rerun=rerun,
    )
    with offline() if dry_run else nullcontext():
        plan = plan_sweep(method_names, dataset_names, lengths, seeds=seeds, settings=shared)
    if not world().is_main:  # only rank 0 of torchrun prints
        if not dry_run:
            runner.execute(plan)
        return
    if len(plan.runs) == 1 and plan.runs[0].skipped is not None:
        raise HashbenchError(f"{plan.runs[0]}: {plan.runs[0].skipped}")
    if dry_run:
        with offline():
            click.echo(plan_table(plan, probe=probe))
        return
    for run in plan.runs:
        if run.skipped is not None:
            click.echo(f"skipped: {run}: {run.skipped}", err=True)
    on_result = None if log_to is None else partial(write_scalars, folder=scalars, runs_dir=runs_dir)
    with ProgressLines(plan, bar=shared.progress, on_result=on_result) as lines:
        outcome = runner.execute(plan, chosen_executor, workers=workers, reporter=lines)
    if outcome.results:
        comparison = Comparison.of(outcome.results)
        warn(comparison.problems)
        kept = f"Results are in {runs_dir}; `hashbench compare {runs_dir}` shows them again."
        width, bold = terminal()
        print_kept(f"{comparison.render('text', width=width, bold=bold)}\n{kept}", otherwise=kept)
    if len(outcome.failures) > 1:
        click.echo(f"{len(outcome.failures)} runs failed:", err=True)
        for run, error in outcome.failures:
            click.echo(f"  {run}: {runner.reason_of(error)}", err=True)
    outcome.raise_first_failure()
    if not outcome.results:
        raise HashbenchError(
            "No run has failed, so there is nothing to run again."
            if rerun == "failed"
            else "Every run was skipped, so there is nothing to show; the reasons are above."
        )
