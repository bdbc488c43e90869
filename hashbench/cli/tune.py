"""`hashbench tune`: settings tried on validation queries, as many for each row of a table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli import completion
from hashbench.cli.base import command
from hashbench.cli.config import config_option, settings_of
from hashbench.cli.options import data_options, dataset_is_there, method_is_there, names, size_option
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.experiments.tuning import Row
    from hashbench.results.studies import Study


@command(
    "hashbench tune --method csq --dataset fashion-mnist-10k --bits 32 --space space.toml --trials 20",
    "hashbench tune --method csq,dpsh --dataset fashion-mnist-10k --bits 16,32 --space space.toml --trials 40",
    "hashbench run --method csq --dataset fashion-mnist-10k --bits 32 --seeds 5 --tuned runs",
)
@config_option
@click.option("--method", "methods", required=True, metavar="NAME[,NAME]", shell_complete=completion.methods,
              help="Methods, or rows of a table: 'crh (reassign=false)'. Each is tuned by itself.")  # fmt: skip
@click.option("--dataset", "datasets", required=True, metavar="NAME[@PROTOCOL][,...]",
              shell_complete=completion.datasets, help="Data sets and protocols. Each is tuned by itself.")  # fmt: skip
@click.option("--space", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="TOML file of what is searched: csq.quantization = {low = 0.01, high = 1.0, log = true}, "
              "recipe.batch_size = {choices = [32, 64]}.")  # fmt: skip
@click.option("--trials", required=True, type=click.IntRange(min=1), metavar="N",
              help="Trials of each row, those of earlier commands among them.")  # fmt: skip
@click.option("--bits", default="32", metavar="K[,K]", help="Code lengths; a trial counts by the mean over them.")
@click.option("--seeds", default=1, metavar="N", help="Run seeds 0 to N-1 of each trial; it counts by their mean.")
@click.option("--sampler-seed", default=0, type=click.IntRange(min=0), metavar="N",
              help="What the sampler draws from: the same command tries the same settings.")  # fmt: skip
@click.option(
    "--recipe", metavar="NAME", help="Training recipe; default: by the size of the images.", show_default=False,
    shell_complete=completion.recipes,
)  # fmt: skip
@click.option("--backbone", metavar="NAME", shell_complete=completion.backbones,
              help="Backbone instead of the recipe's.")  # fmt: skip
@click.option("--epochs", type=int, metavar="N", help="Epochs instead of the recipe's.")
@click.option("--set", "settings", multiple=True, metavar="OWNER.FIELD=VALUE",
              help="A field of a method or of the recipe that is not searched.")  # fmt: skip
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"),
              help="Folder of the results; studies lie in its folder .tuning.")  # fmt: skip
@data_options
@size_option
@click.option("--quiet", is_flag=True, help="No progress bars, and no line for each trial.")
@click.pass_context
def tune(
    context: click.Context,
    methods: str,
    datasets: str,
    space: Path,
    trials: int,
    bits: str,
    seeds: int,
    sampler_seed: int,
    recipe: str | None,
    backbone: str | None,
    epochs: int | None,
    settings: tuple[str, ...],
    device: str,
    runs_dir: Path,
    data_dir: Path | None,
    accept_unofficial: bool,
    size: int | None,
    quiet: bool,
) -> None:
    """Try settings of methods on validation queries, the same number for each row, and say which were best.

    A fifth of the training images are the queries; test queries are not looked at. The first trial has the settings as
    they are, where they lie in the space; the others are chosen by Optuna's TPE. An interrupted command goes on where
    it was; so does one with more trials. `hashbench run --tuned` takes the best settings.
    """
    from hashbench.experiments.settings import parse_bits, parse_settings

    lengths = parse_bits(bits)
    overrides = parse_settings([*settings_of(context), *settings])
    rows_named = names("--method", methods, is_there=method_is_there)
    sets = names("--dataset", datasets, is_there=lambda name: dataset_is_there(name, data_dir))

    from hashbench.experiments.planned import Settings
    from hashbench.experiments.tuning import rows_of, search

    shared = Settings(
        recipe=recipe,
        backbone=backbone,
        epochs=epochs,
        overrides=overrides,
        device=device,
        runs_dir=runs_dir,
        data_dir=data_dir,
        accept_unofficial=accept_unofficial,
        data_size=size,
        progress=not quiet and sys.stderr.isatty(),
    )
    rows = rows_of(
        rows_named, sets, lengths, space=space, trials=trials, seeds=seeds, sampler_seed=sampler_seed, settings=shared
    )
    shown = _silent if quiet else _Lines(trials)
    studies = [search(row, trials, shown) for row in rows]
    for row, study in zip(rows, studies, strict=True):
        click.echo(_summary(row, study))
    for study in studies:
        if study.best is None:
            raise HashbenchError(f"All trials of {study.path} failed, the first because: {study.trials[0].reason}")
    options = {"--method": methods, "--dataset": datasets, "--bits": bits, "--recipe": recipe, "--backbone": backbone,
               "--epochs": epochs, "--runs-dir": None if runs_dir == Path("runs") else runs_dir,
               "--data-dir": data_dir, "--size": size}  # fmt: skip
    given = [part for option, value in options.items() if value is not None for part in (option, str(value))]
    given += [part for setting in (*settings_of(context), *settings) for part in ("--set", setting)]
    given += ["--accept-unofficial"] if accept_unofficial else []
    run = shlex.join(["hashbench", "run", *given, "--tuned", str(studies[0].path if len(studies) == 1 else runs_dir)])
    click.echo(f"To run them on test queries:\n  {run}")


class _Lines:
    """A line on stderr for each trial."""

    def __init__(self, trials: int):
        self._trials = trials

    def __call__(self, row: Row, study: Study) -> None:
        from tqdm.auto import tqdm

        from hashbench.results.studies import settings_words
        from hashbench.results.sweeps.estimates import duration

        trial, best, number = study.trials[-1], study.best, len(study.trials)
        of = f"[{number}/{self._trials}] {row}: {settings_words(trial.settings)}"
        found = f"failed: {trial.reason}" if trial.value is None else f"{study.subject['measure']} {trial.value:.4f}"
        known = f"best {best.value:.4f}, trial {1 + study.trials.index(best)}" if best is not None else "none yet"
        left = (self._trials - number) * study.seconds / number
        time_left = f"; about {duration(left)} left" if left else ""
        tqdm.write(f"{of}: {found} ({known}{time_left})", file=sys.stderr)


def _silent(row: Row, study: Study) -> None:
    pass


def _summary(row: Row, study: Study) -> str:
    """Return what a study cost and found, and what the settings gave as they were."""
    from hashbench.results.studies import settings_words
    from hashbench.results.sweeps.estimates import duration, plural

    first = study.trials[0].value if row.untuned is not None else None
    before = f", {first:.4f} untuned" if first is not None else ""
    found = study.best
    value = "no value" if found is None else f"{study.subject['measure']} {found.value:.4f}"
    failed = f" ({study.failed} failed)" if study.failed else ""
    cost = f"{len(study.trials)} {plural('trial', len(study.trials))}{failed} in {duration(study.seconds)}"
    lines = [
        f"{row}: {value} on validation queries{before}; {cost}",
        *([settings_words(found.settings)] if found else []),
        study.path,
    ]
    return "\n  ".join(map(str, lines))
