"""hashbench: the benchmark suite for deep hashing whose numbers can be trusted.

Everything public is named here and imported on first use, so that `import hashbench` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Batch": "hashbench.datasets.loader",
    "DeepMethod": "hashbench.methods.base",
    "HashbenchError": "hashbench.errors",
    "Method": "hashbench.methods.base",
    "Task": "hashbench.methods.base",
    "Tools": "hashbench.methods.base",
    "TrainingData": "hashbench.methods.base",
    "as_loss": "hashbench.plugging.lending",
    "backbone": "hashbench.backbones",
    "check": "hashbench.plugging.checking",
    "compare": "hashbench.results.table",
    "dataset": "hashbench.datasets.base",
    "evaluate": "hashbench.metrics.evaluation",
    "load": "hashbench.runner",
    "method": "hashbench.methods.base",
    "option": "hashbench.methods.base",
    "run": "hashbench.runner",
    "sweep": "hashbench.runner",
}
__all__ = sorted([*_PUBLIC, "__version__"])

if TYPE_CHECKING:
    from hashbench.backbones import backbone as backbone
    from hashbench.datasets.base import dataset as dataset
    from hashbench.datasets.loader import Batch as Batch
    from hashbench.errors import HashbenchError as HashbenchError
    from hashbench.methods.base import DeepMethod as DeepMethod
    from hashbench.methods.base import Method as Method
    from hashbench.methods.base import Task as Task
    from hashbench.methods.base import Tools as Tools
    from hashbench.methods.base import TrainingData as TrainingData
    from hashbench.methods.base import method as method
    from hashbench.methods.base import option as option
    from hashbench.metrics.evaluation import evaluate as evaluate
    from hashbench.plugging.checking import check as check
    from hashbench.plugging.lending import as_loss as as_loss
    from hashbench.results.table import compare as compare
    from hashbench.runner import load as load
    from hashbench.runner import run as run
    from hashbench.runner import sweep as sweep


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hashbench' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
