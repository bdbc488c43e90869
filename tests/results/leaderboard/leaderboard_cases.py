"""Runs of a row in a setting, made up and stored with the spec that a leaderboard reads."""

from pathlib import Path

import result_cases

from hashbench.datasets.catalogue import find_protocol
from hashbench.results.runs import RunDirectory
from hashbench.storage.strict_json import digest

STATED = {
    "fidelity": "published",
    "family": "pairwise",
    "labels": "used",
    "data_integrity": "1" * 64,
    "data_official": True,
    "weights_sha256": "2" * 64,
}
DATA = {"multi_label": False, "num_classes": 10}


def store_runs(
    root, *values, bits=32, dataset="fashion-mnist-10k", protocol="5k", data=None, provenance=None, **coords
):
    """Store a run of seed 0, 1, ... for each of `values` below `root`, and return the results as they are read."""
    split = find_protocol(f"{dataset}@{protocol}").split_sha256
    provenance = {**STATED, "split_sha256": split, **(provenance or {})}
    found = []
    made = {key: coords.pop(key) for key in ("epochs", "ties", "metrics") if key in coords}
    for seed, value in enumerate(values):
        named = {"dataset": dataset, "protocol": protocol, "bits": bits, "seed": seed, **coords}
        identity = {
            "data": {**DATA, **(data or {})},
            "method": {"name": named.get("method", "crh"), "fields": {"scale": 8.0}},
            "recipe": {"backbone": "resnet-small"},
            "named": named | made,
        }
        result = result_cases.make(value, id=digest(identity), provenance=provenance, **named, **made)
        run = RunDirectory.at(
            Path(root), dataset=f"{dataset}@{protocol}", method=result.coords["method"], bits=bits, seed=seed,
            id=result.id,
        )  # fmt: skip
        with run.lock():
            run.write_spec({"identity": identity, "how": {}})
            run.write_result(result)
        found.append(run.read_result())
    return found
