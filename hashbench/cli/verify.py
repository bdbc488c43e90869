"""`hashbench verify`: the numbers of finished runs, computed again from what is stored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli.base import command
from hashbench.cli.options import data_options
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.evaluation.verification import Labels
    from hashbench.metrics.pairs import Pairs
    from hashbench.results.result import Result


@command("hashbench verify", "hashbench verify runs/cifar10@54k --data-dir data")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@data_options
def verify(runs: tuple[Path, ...], data_dir: Path | None, accept_unofficial: bool) -> None:
    """Compute the numbers of the finished runs in RUNS (default: runs) again from what is stored, and compare.

    Measures from histograms; histograms from codes, and from the labels where the data set is there. Lists
    differences and what could not be checked; exit code 1 where something differs.
    """
    from tqdm import tqdm

    from hashbench.evaluation import verification
    from hashbench.results.runs import find_runs

    results, problems = find_runs(runs or (Path("runs"),))
    if not results and not problems:
        raise HashbenchError(f"There is no finished run below {', '.join(map(str, runs or ('runs',)))} to verify.")
    relevance = _RelevanceSource(data_dir, accept_unofficial)
    bar = tqdm(results, unit="run", disable=not sys.stderr.isatty(), leave=False)
    verdicts = [verification.verify(result, relevance) for result in bar]
    unchecked: dict[tuple[str, str], int] = {}
    for verdict in verdicts:
        for difference in verdict.differences:
            click.echo(f"{verdict.path}: {difference}")
        for missing in verdict.unchecked:
            unchecked[missing] = unchecked.get(missing, 0) + 1
    for problem in problems:
        click.echo(problem)
    for (name, reason), count in unchecked.items():
        click.echo(f"not checked in {count} of {len(results)} runs: {name}: {reason}")
    differing = sum(bool(verdict.differences) for verdict in verdicts) + len(problems)
    unknown = sum(not (verdict.differences or verdict.measured) for verdict in verdicts)
    total = len(results) + len(problems)
    parts = [f"{total - differing - unknown} as stored", f"{differing} with differences"]
    parts += [f"{unknown} whose measures could not be checked"] if unknown else []
    click.echo(f"{total} runs: {', '.join(parts)}. Not checked in any: that model.pt gives these codes.")
    if differing:
        sys.exit(1)


class _RelevanceSource:
    """What is relevant to the queries of runs, from the data sets that can be read here; each is read once."""

    def __init__(self, data_dir: Path | None, accept_unofficial: bool):
        self._data_dir, self._accept = data_dir, accept_unofficial
        self._found: dict[tuple[str, str], tuple[str, Labels, Pairs] | HashbenchError] = {}

    def __call__(self, result: Result) -> tuple[Labels, Pairs]:
        """Return labels (n, C) of the run's queries and database, and pairs; raises HashbenchError without the data."""
        name = f"{result.coords['dataset']}@{result.coords['protocol']}"
        key = (name, result.part)
        if key not in self._found:
            self._found[key] = self._read(*key)
        found = self._found[key]
        if isinstance(found, HashbenchError):
            raise found
        split_sha256, labels, pairs = found
        if split_sha256 != result.provenance.get("split_sha256"):
            raise HashbenchError(f"{name} is here, but with other images or another split")
        return labels, pairs

    def _read(self, name: str, part: str) -> tuple[str, Labels, Pairs] | HashbenchError:
        from hashbench.datasets.catalogue import load

        try:
            data = load(name, data_dir=self._data_dir, evaluate_on=part, accept_unofficial=self._accept)
        except HashbenchError as error:
            return error
        return data.split.sha256, data.labels, data.pairs
