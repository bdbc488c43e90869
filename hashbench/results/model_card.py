"""The card of a trained model: what it is, how faithful, what it was trained on, what it measures, what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hashbench.results.result import Result
from hashbench.results.tables.blocks import tuned_words
from hashbench.results.tables.escaping import markdown
from hashbench.storage.strict_json import dumps

_EQUATIONS = {  # where a method's come from, by its fidelity
    "published": "the paper, or its authors' code",
    "sibling": "other code of the same authors, or code that contains the step",
    "account": "a third party's account of paper and code",
    "reconstructed": "the abstract or digests, and partly from ourselves",
    "reference": "no paper: it is a row to compare with others",
}


def model_card(result: Result, identity: Mapping[str, Any]) -> str:
    """Return the card of a run's model as Markdown; `identity` is that of its experiment, plain data."""
    return "\n".join(_lines(result, identity)) + "\n"


def _lines(result: Result, identity: Mapping[str, Any]) -> Iterator[str]:
    coords, provenance = result.coords, result.provenance
    name, data = f"{coords['dataset']}@{coords['protocol']}", identity["data"]
    yield f"# {markdown(coords['method'])}, {coords['bits']} bits, trained on {markdown(name)}"
    yield ""
    yield "Images or vectors in, codes out; near codes by Hamming distance. Written by hashbench; the numbers below are"
    yield "this run's own, from `run/result.json`."
    yield ""
    yield "## Use"
    yield ""
    yield "    python -c \"import hashbench; print(hashbench.load('bundle.zip').bits)\""
    yield "    hashbench encode bundle.zip photos --output codes.npz"
    yield ""
    yield f"It takes inputs of shape {_plain(data['shape'])}; images of other sizes are resized, with values in [0, 1]."
    if coords["inputs"] == "features":
        yield ""
        yield (
            f"**Not in the bundle:** the weights of the fixed backbone {markdown(str(coords['backbone']))} "
            f"({_plain(identity['weights'])}, sha256 {_plain(provenance.get('weights_sha256'))}), which must be there."
        )
    yield ""
    yield "## Method"
    yield ""
    fidelity = str(provenance.get("fidelity") or "unstated")
    source = f"; its equations come from {_EQUATIONS[fidelity]}" if fidelity in _EQUATIONS else ""
    yield from _items({
        "method": f"{coords['method']}, version {coords['method_version']}",
        "fidelity": f"{fidelity}{source}",
        "fields": identity["method"]["fields"],
        "source sha256": provenance.get("source_sha256"),
        "backbone": coords["backbone"],
        "recipe": coords["recipe"],
        **({"tuned": ", ".join(tuned_words(coords["tuned"]))} if "tuned" in coords else {}),
        "seed": coords["seed"],
        "run id": result.id,
    })  # fmt: skip
    yield ""
    yield "## Data"
    yield ""
    yield from _items({
        "data set and protocol": name,
        "official files": provenance.get("data_official"),
        "content sha256": provenance.get("data_integrity"),
        "split sha256": provenance.get("split_sha256"),
        "images": result.counts,
        "classes": data["num_classes"],
    })  # fmt: skip
    yield ""
    yield f"## Measures on {markdown(coords['evaluated'])} queries, ties {markdown(result.ties)}"
    yield ""
    yield "| measure | value | worst and best order of ties |"
    yield "| --- | --- | --- |"
    for measure, value in result.metrics.items():
        bounds = " to ".join(_number(bound) for bound in result.bounds.get(measure, ()))
        yield f"| {markdown(measure)} | {_number(value)} | {bounds or '—'} |"
    yield ""
    yield "One run, one seed. Compare methods by several."
    yield ""
    yield "## Made with"
    yield ""
    made = ("hashbench", "libraries", "device_name", "threads", "started")
    yield from _items({key: provenance.get(key) for key in made} | {"seconds": result.time.get("total")})


def _items(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"* {name}: {markdown(_plain(value))}"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return _number(value)
    return "not stated" if value is None else value if isinstance(value, str) else dumps(value)


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"
