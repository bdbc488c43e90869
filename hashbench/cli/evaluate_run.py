"""`hashbench evaluate-run`: finished runs measured again under conditions."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hashbench.cli.base import command, print_kept, warn
from hashbench.cli.options import data_options, names, size_option
from hashbench.errors import HashbenchError


@command(
    'hashbench evaluate-run runs --under "noise(sigma=0.1),jpeg(quality=30)"',
    "hashbench evaluate-run runs/fashion-mnist-10k@5k/crh/32b/s0-* --under blur",
    'hashbench evaluate-run runs --under "neighbours(k=100, metric=cosine)"',
    name="evaluate-run",
)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--under", required=True, metavar="CONDITION[,CONDITION]",
              help="Conditions with their fields; see `hashbench list conditions`.")  # fmt: skip
@click.option("--method", metavar="TARGET", help="The class behind RUNS, where it came from a module or file.")
@click.option("--backbone", metavar="TARGET", help="The backbone of RUNS, where it came from a module or file.")
@click.option("--dataset", metavar="NAME", help="Own data of RUNS, as they were named then: arrays:path/file.npz.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
@data_options
@size_option
@click.option("--quiet", is_flag=True, help="No progress bar.")
def evaluate_run(
    runs: tuple[Path, ...],
    under: str,
    method: str | None,
    backbone: str | None,
    dataset: str | None,
    device: str,
    data_dir: Path | None,
    accept_unofficial: bool,
    size: int | None,
    quiet: bool,
) -> None:
    """Measure the finished runs in RUNS again under conditions, and print them beside what they are without.

    The query images are changed and encoded again, or other items are relevant (neighbours); nothing is trained, and
    the database's codes are those stored.
    Results are kept in the folder `under` of each run; what is there is loaded, not repeated.
    """
    texts = names("--under", under)

    from tqdm.auto import tqdm

    from hashbench.experiments import reevaluation
    from hashbench.experiments.execution import reason_of
    from hashbench.results.finding import find_runs
    from hashbench.results.result import Result
    from hashbench.results.tables.comparison import Comparison

    conditions = [*dict.fromkeys(map(reevaluation.parse_condition, texts))]
    results, problems = find_runs(runs)
    warn(problems)
    chosen = [result for result in results if not result.condition]
    if not chosen:
        raise HashbenchError(f"There is no finished run below {', '.join(map(str, runs))} to evaluate.")
    evaluator = reevaluation.Evaluator(
        method=method,
        backbone=backbone,
        dataset=dataset,
        data_dir=data_dir,
        data_size=size,
        accept_unofficial=accept_unofficial,
        device=device,
        progress=not quiet and sys.stderr.isatty(),
    )
    wanted = [reevaluation.Measuring(run, condition) for run in chosen for condition in conditions]
    found, failed = list[tuple[int, Result]](), list[str]()
    with tqdm(total=len(wanted), unit="run", disable=quiet or not sys.stderr.isatty(), leave=False) as bar:
        for measured in evaluator.all(wanted):
            bar.update()
            if measured.result is not None:
                found.append((conditions.index(measured.of.condition), measured.result))
            else:
                assert measured.error is not None
                failed.append(f"{measured.of}: {reason_of(measured.error)}")
    warn(dict.fromkeys(evaluator.warnings))
    if found:
        found.sort(key=lambda each: each[0])  # a table for each condition, in the order in which they were asked for
        comparison = Comparison.of([*chosen, *(result for _, result in found)])
        warn(comparison.problems)
        kept = f"Results are in the folder `under` of each run; `hashbench compare {runs[0]}` shows them again."
        print_kept(f"{comparison.render('text')}\n{kept}", otherwise=kept)
    if len(failed) > 1:
        click.echo(f"{len(failed)} of {len(wanted)} failed:", err=True)
        for line in failed:
            click.echo(f"  {line}", err=True)
    if failed:
        raise HashbenchError(failed[0])
