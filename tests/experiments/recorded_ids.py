"""Experiments whose ids were recorded before files moved: pairs of a request and the ids that it had.

    python tests/experiments/recorded_ids.py > tests/experiments/recorded_ids.json

writes them anew; an id that moves makes every finished run of its experiment a stranger, so that needs a reason.
"""

import json

from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan

METHODS = ("crh", "csq", "dpn", "shc", "itq", "lsh", "classifier")
REQUESTS: tuple[dict, ...] = (
    {"methods": METHODS, "datasets": ("fashion-mnist-10k",), "bits": (16, 32)},
    {"methods": ("crh", "csq", "dpn", "shc", "itq"), "datasets": ("fashion-mosaic",), "bits": (32,)},
    {
        "methods": ("crh", "itq"),
        "datasets": ("fashion-mnist-10k",),
        "bits": (16,),
        "settings": {"evaluate_on": "validation"},
    },
    {
        "methods": ("crh", "csq", "dpn", "shc"),
        "datasets": ("fashion-mnist-10k",),
        "bits": (64,),
        "settings": {"recipe": "paper"},
    },
    {"methods": ("crh", "csq"), "datasets": ("fashion-mosaic",), "bits": (16,), "settings": {"recipe": "paper"}},
    {
        "methods": ("crh", "crh (heads=1, reassign=false)", "itq", "lsh"),
        "datasets": ("fashion-mnist-10k",),
        "bits": (16,),
        "settings": {"recipe": "frozen", "backbone": "mobilenet_v2"},
    },
    {
        "methods": ("crh",),
        "datasets": ("fashion-mnist-10k@5k",),
        "bits": (48,),
        "settings": {"epochs": 3, "overrides": {"crh": {"margin": "0.3"}, "recipe": {"compile": "true"}}},
    },
)


def ids_of(request: dict) -> dict[str, str]:
    """Return the id of each experiment of a request by its run."""
    settings = Settings(**request.get("settings", {}), device="cpu")
    planned = plan(request["methods"], request["datasets"], request["bits"], seeds=2, settings=settings)
    return {str(run): run.experiment.id for run in planned.runs if run.experiment is not None}


if __name__ == "__main__":
    print(json.dumps([ids_of(request) for request in REQUESTS], indent=1))
