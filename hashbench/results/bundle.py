"""A run as one file to take along: what loads its model, its result, and a card for people."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hashbench import __version__
from hashbench.errors import HashbenchError
from hashbench.results.model_card import model_card
from hashbench.results.runs import RESULT, SPEC, RunDirectory
from hashbench.storage.archives import Archive, write_archive
from hashbench.storage.files import make_folder, regular, reported

BUNDLE = "bundle"
INDEX = "search index"  # a bundle that holds codes of images, too
CARD = "MODEL_CARD.md"
MODEL = "model.pt"


def write_bundle(run: RunDirectory, path: Path) -> int:
    """Write weights, experiment, result and model card of a finished run to `path`; returns its bytes.

    Raises HashbenchError where the run lacks one of them, or holds another than its result states.
    """
    result = run.read_result()
    make_folder(path.parent)
    write_archive(path, BUNDLE, bundle_members(run), {"id": result.id, "hashbench": __version__})
    return path.stat().st_size


def bundle_members(run: RunDirectory) -> dict[str, bytes]:
    """Return the files of a bundle by name; raises HashbenchError as `write_bundle` does."""
    run.refuse_condition()
    result, spec = run.read_result(), run.read_spec()
    if result.coords["inputs"] == "pairs":
        raise HashbenchError(
            f"{run.path} learned from pairs of users and items, so it has no network to take along; export its codes, "
            f"as in `hashbench export RUN codes.npz`."
        )
    members = {CARD: model_card(result, spec["identity"]).encode()}
    weights = run.weights_of(result)
    holders = {"run": run} if weights is run else {"run": run, "training": weights}
    for folder, holder in holders.items():
        names = [RESULT, SPEC] if holder is run and len(holders) > 1 else [RESULT, SPEC, MODEL]
        members |= {f"{folder}/{name}": _content(holder, name) for name in names}
    return members


def _content(run: RunDirectory, name: str) -> bytes:
    path = run.path / name
    try:
        run.require_stated(path)
        with regular(path) as file:
            return file.read()
    except OSError as error:
        reason = error.strerror or error
        raise HashbenchError(f"{path} cannot be read ({reason}); run again to have it, or copy it along.") from error


@contextmanager
def opened_run(path: Path) -> Iterator[RunDirectory]:
    """Yield the run in a folder, a bundle or a search index; that of a file lies in a temporary folder.

    Raises HashbenchError where the file is damaged or something else.
    """
    if not path.is_file():
        yield RunDirectory(path)
        return
    with Archive(path, BUNDLE, INDEX) as archive, tempfile.TemporaryDirectory(prefix="hashbench-") as temporary:
        root = Path(os.path.realpath(temporary))
        run = RunDirectory(root / "method" / "bits" / "run")  # as deep as in a results folder
        _extract(archive, "run", run.path)
        result = run.read_result()
        if result.id != archive.about.get("id"):
            raise archive.unusable("it holds another run than it says")
        if "prefix_of" in result.provenance:
            training = Path(os.path.normpath(run.path / result.provenance["prefix_of"]["path"]))
            if not training.is_relative_to(root) or training in (root, run.path, *run.path.parents):
                raise archive.unusable("the training that it names lies elsewhere")
            _extract(archive, "training", training)
        yield run


def _extract(archive: Archive, folder: str, target: Path) -> None:
    """Write a run's files, of which each has one of three names."""
    make_folder(target)
    for name in (RESULT, SPEC, MODEL):
        if f"{folder}/{name}" in archive:
            content = archive.read(f"{folder}/{name}")
            with reported(target / name):
                (target / name).write_bytes(content)
