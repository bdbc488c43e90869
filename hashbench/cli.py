"""The command line: one function per command; what a command needs is imported inside it, so that --help is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hashbench import __version__
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.planning import Cell, Plan


class OneSentence(click.Group):
    """A group whose commands end a HashbenchError with one sentence and exit code 2, and Ctrl-C with 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; with --debug, errors keep their traceback."""
        try:
            return super().invoke(ctx)
        except HashbenchError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. What was finished is kept; the same command goes on from here.", err=True)
            ctx.exit(130)


def command(*examples: str, name: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command of `hashbench` whose help ends with examples that work."""
    lines = "\n".join(f"  {example}" for example in examples)
    return main.command(name, epilog=f"\b\nExamples:\n{lines}", context_settings={"show_default": True})


@click.group(cls=OneSentence, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="hashbench")
def main(debug: bool) -> None:
    """Benchmark deep hashing: images in, K-bit codes out, retrieval by Hamming distance, numbers to be trusted."""


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
@click.option("--evaluate-on", type=click.Choice(["test", "validation"]), default="test",
              help="validation: a fifth of train asks, the rest is trained on and searched.")  # fmt: skip
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), help="Where results are kept.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the official files lie.  [env: HASHBENCH_DATA]"
)
@click.option("--accept-unofficial", is_flag=True, help="Take data files whose checksum is not the official one.")
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
    overrides = parse_settings(settings)
    method_names, dataset_names = _names("--method", methods), _names("--dataset", datasets)

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
        _warn(comparison.problems)
        click.echo(comparison.render("text"))
        click.echo(f"Results are in {runs_dir}; `hashbench compare {runs_dir}` shows them again.")
    outcome.raise_first_failure()
    if not outcome.results:
        raise HashbenchError("Every cell was skipped, so there is nothing to show; the reasons stand above.")


@command(
    "hashbench compare",
    "hashbench compare runs --format markdown",
    "hashbench compare runs --measure mAP@1000/hits --measure P@H2",
)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--measure", "measures", multiple=True, metavar="NAME", help="Measures; default: the data set's own.")
@click.option("--format", "form", type=click.Choice(["text", "markdown", "latex", "csv"]), default="text")
def compare(runs: tuple[Path, ...], measures: tuple[str, ...], form: str) -> None:
    """Print a table of the results in RUNS (default: runs): methods by code length, a block per data set."""
    from hashbench.results.table import compare as compare_runs

    comparison = compare_runs(*(runs or (Path("runs"),)), measures=measures or None)
    _warn(comparison.problems)
    click.echo(comparison.render(form))


@command(
    "hashbench evaluate query_codes.npy database_codes.npy query_labels.npy database_labels.npy",
    "hashbench evaluate tst_binary.npy trn_binary.npy tst_label.npy trn_label.npy --measure mAP@1000/hits",
    "hashbench evaluate all.npz:q all.npz:d all.npz:q_labels all.npz:d_labels --mode deephash-pytorch",
)
@click.argument("query_codes", metavar="QUERY_CODES")
@click.argument("database_codes", metavar="DATABASE_CODES")
@click.argument("query_labels", metavar="QUERY_LABELS")
@click.argument("database_labels", metavar="DATABASE_LABELS")
@click.option("--measure", "measures", multiple=True, default=["mAP@all", "P@H<=2"], metavar="NAME", help="Measures.")
@click.option("--ties", type=click.Choice(["expected", "optimistic", "pessimistic"]), default="expected",
              help="Order of the items at one distance.")  # fmt: skip
@click.option("--mode", type=click.Choice(["deephash-pytorch", "hashnet", "fire", "dcmh"]),
              help="Compute mAP as published code does; see docs/metrics.md.")  # fmt: skip
@click.option("--encoding", type=click.Choice(["bits", "signs", "real", "packed"]), help="What the codes are.")
@click.option("--bits", type=int, metavar="K", help="Length of packed codes that do not fill their last byte.")
@click.option("--labels", type=click.Choice(["integers", "multi-hot"]), help="What the labels are.")
@click.option("--per-query", type=click.Path(path_type=Path), metavar="FILE", help="Write each query's values (.npz).")
@click.option("--backend", type=click.Choice(["auto", "numba", "torch"]), default="auto")
@click.option("--device", default="cpu", metavar="DEVICE", help="cpu or cuda, with the torch backend.")
def evaluate(
    query_codes: str,
    database_codes: str,
    query_labels: str,
    database_labels: str,
    per_query: Path | None,
    **choices: Any,
) -> None:
    """Measure codes from anywhere, exactly and whatever their order; says what it took the arrays for.

    Arrays lie in .npy, .npz (FILE:NAME where it holds several) or .pt files. Codes are bool, {0,1}, {-1,+1}, real
    values (their signs) or packed bytes; labels are integers or multi-hot.
    """
    from tabulate import tabulate

    from hashbench.metrics.evaluation import evaluate as evaluate_codes
    from hashbench.metrics.files import read_array
    from hashbench.results.files import replacing

    places = (query_codes, database_codes, query_labels, database_labels)
    with _usable():
        arrays = [read_array(*_file_and_key(place)) for place in places]
        scores = evaluate_codes(*arrays, bounds=True, per_query=per_query is not None, **choices)
    for note in scores.notes:
        click.echo(note, err=True)
    rows = [[name, value, *scores.bounds.get(name, ("", ""))] for name, value in scores.items()]
    click.echo(tabulate(rows, headers=["measure", "value", "worst ties", "best ties"], floatfmt=".4f"))
    for name, curve in scores.curves.items():
        points = zip(curve["at"], curve["x"], curve["y"], strict=True)
        click.echo()
        click.echo(tabulate(points, headers=[f"{name} at", "recall", "precision"], floatfmt=("g", ".4f", ".4f")))
    if per_query is not None:
        import numpy as np

        with replacing(per_query) as file:
            np.savez_compressed(file, **scores.per_query)  # type: ignore[arg-type]  # its stub takes allow_pickle first


@command("hashbench list methods", "hashbench list datasets", name="list")
@click.argument("kind", type=click.Choice(["methods", "datasets", "backbones", "recipes"]))
def list_names(kind: str) -> None:
    """Show what there is: methods, datasets, backbones or recipes."""
    from hashbench import listing

    click.echo(listing.TABLES[kind]())


@command("hashbench show runs/fashion-mnist-10k@5k/crh/32b/s0-*")
@click.argument("run", type=click.Path(path_type=Path))
def show(run: Path) -> None:
    """Show one run: its measures, what it cost, and where it comes from."""
    from hashbench.results.store import RunDirectory
    from hashbench.results.table import describe

    click.echo(describe(RunDirectory(run).read_result()))


@command("hashbench encode runs/fashion-mnist-10k@5k/crh/32b/s0-* photos --output codes.npz")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("codes.npz"), help="The file to write.")
@click.option("--method", metavar="TARGET", help="The class behind RUN, where it came from a module or file.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
def encode(run: Path, folder: Path, output: Path, method: str | None, device: str) -> None:
    """Encode the images in FOLDER with the model of RUN into packed codes and file names (.npz)."""
    from hashbench import runner
    from hashbench.encoding import encode_folder

    count = encode_folder(runner.load(run, method=method, device=device), folder, output, progress=sys.stderr.isatty())
    click.echo(f"{output}: codes of {count:,} images.")


@command("hashbench check crh", "hashbench check my_package.my_module:MyMethod", "hashbench check my_file.py:MyLoss")
@click.argument("target")
def check(target: str) -> None:
    """Check that TARGET, a method or loss class, keeps the contract: on toy data, in seconds.

    TARGET is a registered name, or a class in a module or a file, whose code is then run.
    """
    from hashbench.plugging.checking import check as check_method

    verdict = check_method(target)
    click.echo(verdict.render())
    if not verdict.ok:
        sys.exit(1)


@command("hashbench export-split fashion-mnist-10k lists")
@click.argument("dataset")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the official files lie.  [env: HASHBENCH_DATA]"
)
@click.option("--accept-unofficial", is_flag=True, help="Take data files whose checksum is not the official one.")
def export_split(dataset: str, folder: Path, data_dir: Path | None, accept_unofficial: bool) -> None:
    """Write the split of DATASET to FOLDER for suites that read lists: `path 0 1 0 ...`, and the images as PNG."""
    from hashbench.datasets import export
    from hashbench.datasets.base import load

    loaded = load(dataset, data_dir=data_dir, accept_unofficial=accept_unofficial)
    count = export.export_split(loaded, folder, progress=sys.stderr.isatty())
    click.echo(f"{folder}: {', '.join(export.LISTS.values())} and {count:,} images.")


@contextmanager
def _usable() -> Iterator[None]:
    """Turn the refusals of hashbench.metrics, which knows no HashbenchError, into one."""
    try:
        yield
    except ValueError as error:
        raise HashbenchError(str(error)) from error


def _file_and_key(place: str) -> tuple[str, str | None]:
    """Split FILE:NAME; a colon that is part of the path, as in C:\\codes.npy, is followed by an ending."""
    path, colon, key = place.rpartition(":")
    return (path, key) if colon and "." not in key else (place, None)


def _warn(problems: Iterable[str]) -> None:
    for problem in problems:
        click.echo(f"Warning: {problem}", err=True)


def _names(option: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise HashbenchError(f"{option} '{text}' has an empty place; write names with one comma between them.")
    return [*dict.fromkeys(names)]


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
