"""Results made up for the tests of what is kept and shown of them."""

from dataclasses import replace

from hashbench.results.result import Result
from hashbench.storage.strict_json import digest

COORDS = {
    "method": "crh",
    "method_version": 1,
    "fields": {},
    "dataset": "toy",
    "protocol": "a",
    "evaluated": "test",
    "measure": "mAP@all",
    "backbone": "resnet-small",
    "recipe": "scratch",
    "inputs": "images",
    "bits": 32,
    "seed": 0,
    "engine": 1,
    "cell": "",  # filled in by make
}


def make(value=0.5, *, id=None, path=None, epochs=20, ties="expected", metrics=None, provenance=None, **coords):
    """A result with one number, at the given coordinates."""
    unknown = set(coords) - set(COORDS)
    assert not unknown, unknown
    coords = COORDS | coords
    coords["cell"] = coords["cell"] or digest([{**coords, "seed": None, "measure": None}, epochs, ties])
    provenance = {"started": "2026-01-01T00:00:00+00:00", "source_sha256": "0" * 64} | (provenance or {})
    return Result(
        id=id or digest([coords, epochs, ties, provenance]),
        coords=coords,
        metrics={"mAP@all": value} if metrics is None else metrics,
        bounds={"mAP@all": [value - 0.01, value + 0.01]} if metrics is None else {},
        ties=ties,
        curves={"PR": {"x": [0.0, 0.5, 1.0], "y": [1.0, value, 0.1], "at": [0, 1, 2]}},
        counts={"queries": 10, "database": 90},
        code_stats={},
        diagnostics={},
        epoch={"kept": "last", "of": epochs},
        time={"train": 12.5},
        images_per_s=1000.0,
        peak_memory_mb=None,
        provenance=provenance,
        path=path,
    )


def tuned(result, seconds=1.0, *, trials=5, rate=None, **fields):
    """The result with fields, and a learning rate, that a study of so many trials found."""
    recipe = {} if rate is None else {"learning_rate": str(rate)}
    settings = {f"{result.coords['method']}.{name}": str(value) for name, value in fields.items()}
    settings |= {f"recipe.{name}": text for name, text in recipe.items()}
    cost = {"id": result.coords["method"], "trials": trials, "failed": 0, "seconds": seconds, "bits": [32]}
    coords = {
        "fields": result.coords["fields"] | fields,
        "tuned": {"trials": trials, "settings": settings, "recipe": recipe},
    }
    return replace(
        result,
        id=digest([result.id, cost, settings]),
        coords=result.coords | coords,
        provenance={**result.provenance, "tuned": {**cost, "path": "x", "space_sha256": "y"}},
    )
