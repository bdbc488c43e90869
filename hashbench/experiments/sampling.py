"""Which settings a study tries next: Optuna's TPE, as a function of the space, the trials before, and a seed.

So a study that is taken up again goes on as if it had not been interrupted, and its record needs no Optuna to be read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hashbench.errors import HashbenchError
from hashbench.experiments.search_space import Dimension, Space
from hashbench.results.studies import Trial
from hashbench.storage.strict_json import digest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FAILED = 0.0  # the value of a failed trial to the sampler, the worst of any measure: settings like it are avoided
_SMALL = 10_000  # settings
_ATTEMPTS = 20  # at settings that were not tried before


def require_optuna() -> None:
    """Raise HashbenchError where Optuna, an extra, is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise HashbenchError("Tuning needs Optuna; install it with pip install 'hashbench[tune]'.") from None


def next_settings(
    space: Space, trials: Sequence[Trial], *, seed: int, first: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the settings of the next trial as texts by name: those of `first` before all others, where given.

    Settings are tried once, as long as a finite space has others.
    """
    if first is not None and not trials:
        return dict(first)
    tried = [dict(trial.settings) for trial in trials]
    for attempt in range(_ATTEMPTS):
        found = _sampled(space, trials, int(digest([seed, len(trials), attempt])[:8], 16))
        if found not in tried:
            return found
    return next((each for each in _all(space) if each not in tried), found)


def size_of(space: Space) -> float:
    """Return how many different settings there are."""
    return math.prod(dimension.size for dimension in space.values())


def _all(space: Space) -> list[dict[str, str]]:
    """Return all settings of a small space; [] for another one, in which some that are new are always found."""
    if size_of(space) > _SMALL:
        return []
    values = [dimension.all_texts() for dimension in space.values()]
    return [dict(zip(space, texts, strict=True)) for texts in itertools.product(*values)]


def _sampled(space: Space, trials: Sequence[Trial], seed: int) -> dict[str, str]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study in memory
    distributions = {name: _distribution(dimension) for name, dimension in space.items()}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for trial in trials:
        values = {name: _value(space[name], text) for name, text in trial.settings.items()}
        value = FAILED if trial.value is None else trial.value
        study.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, value=value))
    asked = study.ask(distributions).params
    return {name: asked[name] if space[name].choices else space[name].text(asked[name]) for name in space}


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _value(dimension: Dimension, text: str) -> Any:
    return text if dimension.choices else int(text) if dimension.whole else float(text)
