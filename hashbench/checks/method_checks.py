"""The contract of methods as checks on toy data; verdict.py runs them and reports what they found.

Each check is a function of a `Case` (a code length, one label or several) and returns what is wrong, or None.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hashbench.checks.ranks import memories, memories_of_ranks, target_of
from hashbench.checks.toy_runs import CLASSES, CPU, EPOCHS, NUM_QUERIES, Case, Interrupted
from hashbench.experiments.models import load_model
from hashbench.experiments.settings import parse_value, setting_text
from hashbench.interop.loss_as_method import LossAsMethod
from hashbench.methods.contract import DeepMethod, Method, Registrable, defines, options, wraps
from hashbench.methods.wrapping import base_class, classes_of, resolve
from hashbench.networks.model import Model
from hashbench.storage.strict_json import canonical
from hashbench.system import seeds

BITS = (12, 16, 48, 64)
ROUNDING = 0.01  # share of bits that may differ between batch sizes: an output next to zero may round to either side


class NotApplicable(Exception):
    """Raised by a check that does not apply; the message gives the reason."""


def wrong_form(cls: type[Registrable]) -> str | None:
    """Return what is wrong with a method's name, version or fields."""
    info = cls.info
    if not re.fullmatch(r"[\w+-]+", info.name):
        return f"the name '{info.name}' cannot be typed in --set {info.name}.field=value; use letters, digits, - + _."
    if type(info.version) is not int or info.version < 1:
        return f"version is {info.version!r}; give a whole number from 1."
    for name, found in options(cls).items():
        if name == "base" and issubclass(cls, Method) and wraps(cls):
            base_class(cls)
            continue
        try:
            canonical(found.default)
            parse_value(cls, name, setting_text(found.default))
        except (TypeError, ValueError) as error:
            return f"the field '{name}' with its default {found.default!r} cannot be a setting: {error}"
    cls()
    return None


def overrides_prepare(cls: type[Method]) -> bool:
    """Tell whether a method has a preparation stage."""
    classes = classes_of(cls, resolve(cls, {}))
    return any(issubclass(one, DeepMethod) and defines(one, "prepare") for one in classes)


def keeps_samples(cls: type[Method]) -> bool:
    """Tell whether a method, or its base, declares memories of samples."""
    return any(issubclass(one, DeepMethod) and one.keeps_samples for one in classes_of(cls, resolve(cls, {})))


def trains(case: Case) -> str | None:
    """Train, and check the log of the epochs."""
    if not case.deep:
        return None if case.trained.model.method.state_dict() else "fit left no buffer, so nothing could be saved."
    logged = [line["epoch"] for line in case.trained.epochs if "epoch" in line]
    return None if logged == [*range(EPOCHS)] else f"the log has the epochs {logged} instead of {EPOCHS}."


def terms_are_named_scalars(case: Case) -> str | None:
    """Check the terms of one step."""
    terms = _step(case.new_model(), case)
    if not (isinstance(terms, dict) and terms and all(isinstance(name, str) for name in terms)):
        return f"the loss is {terms!r:.60}, not a dict of named terms."
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.ndim:
            shape = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
            return f"the term '{name}' is of shape or type {shape}, not a scalar tensor."
    return None


def gradients_are_finite(case: Case) -> str | None:
    """Take the gradients of one step."""
    model = case.new_model()
    terms = _step(model, case)
    torch.stack(list(terms.values())).sum().backward()
    assert model.network is not None
    found = [(name, p.grad) for name, p in [*model.network.named_parameters(), *model.method.named_parameters()]]
    if not any(gradient is not None and gradient.any() for _, gradient in found):
        return "the loss has no gradient at all."
    wrong = [name for name, gradient in found if gradient is not None and not gradient.isfinite().all()]
    return f"the gradient of '{wrong[0]}' is not finite." if wrong else None


def parameters_are_optimised(case: Case) -> str | None:
    """Look for parameters that no group of the optimiser holds."""
    model = case.new_model()
    assert isinstance(model.method, DeepMethod)
    assert model.network is not None
    groups = model.method.parameter_groups(model.network, case.experiment.recipe)
    held = {id(parameter) for group in groups for parameter in group["params"]}
    named = [*model.network.named_parameters(), *model.method.named_parameters()]
    missing = [name for name, parameter in named if parameter.requires_grad and id(parameter) not in held]
    return f"'{missing[0]}' is in no group of parameter_groups; freeze it or add it." if missing else None


def hooks_run(case: Case) -> str | None:
    """Check the arguments and the return values of end_epoch."""
    epochs = [epoch for epoch, _, _ in case.trained.hooks]
    if epochs != [*range(EPOCHS)]:
        return f"end_epoch ran after the epochs {epochs} instead of each of {EPOCHS}."
    for _, sums, returned in case.trained.hooks:
        for name, value in sums.items():
            if value.dtype != torch.float64:
                return f"epoch_sums gives '{name}' as {value.dtype}; sums are torch.float64."
        if not isinstance(returned, dict) or not all(type(value) in (int, float) for value in returned.values()):
            return f"end_epoch returned {returned!r:.60}, not a dict of numbers."
    return None


def codes_are_bool(case: Case) -> str | None:
    """Encode the queries."""
    codes, wanted = case.trained.model.codes(case.queries), (NUM_QUERIES, case.bits)
    if codes.dtype == torch.bool and tuple(codes.shape) == wanted:
        return None
    return f"the codes are {codes.dtype} of shape {tuple(codes.shape)}, not torch.bool of shape {wanted}."


def codes_stand_alone(case: Case) -> str | None:
    """Encode the queries together, one by one and in another order."""
    model, queries = case.trained.model, case.queries
    together = model.codes(queries)
    alone = torch.cat([model.codes(query) for query in queries.split(1)])
    backwards = model.codes(queries.flip(0)).flip(0)
    for other, how in ((alone, "encoded alone"), (backwards, "encoded in another order")):
        share = float((together != other).double().mean())
        if share > ROUNDING:
            return f"{share:.0%} of the bits change when an input is {how}; a code may depend on its own input alone."
    return None


def seed_decides(case: Case) -> str | None:
    """Train again with the same seed, after others have drawn from the global generators."""
    first = case.trained.state
    seeds.seed_globals(1, "somebody else's")
    same = _same(case.train().state, first)
    return None if same else "two trainings with one seed differ; draw chance from task.generator(purpose)."


def survives_a_missing_class(case: Case) -> str | None:
    """Train on a set in which the last class has no sample."""
    model = case.train(classes=CLASSES - 1).model
    model.codes(case.queries)
    network = [] if model.network is None else [*model.network.state_dict().items()]
    for name, value in [*model.method.named_parameters(), *model.method.named_buffers(), *network]:
        if not value.isfinite().all():
            return f"'{name}' is no longer finite after a training without a sample of one class."
    return None


def resumes(case: Case) -> str | None:
    """Interrupt a training in its second epoch, resume it from its checkpoint, and compare all state bit for bit."""
    method = case.trained.model.method
    assert isinstance(method, DeepMethod)
    reason = method.resumes()
    if reason is not None:
        raise NotApplicable(f"it cannot resume: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        try:
            case.train(checkpoint=path, stop_in=1)
        except Interrupted:
            resumed = case.train(checkpoint=path)
    if len(resumed.epochs) != EPOCHS - 1:
        return f"after one finished epoch, {len(resumed.epochs)} were trained instead of {EPOCHS - 1}."
    same = _same(resumed.state, case.trained.state)
    return None if same else "a resumed training ends elsewhere than an uninterrupted one; keep all state in buffers."


def state_survives(case: Case) -> str | None:
    """Save the model, load it, and encode again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        case.trained.model.save(path)
        loaded = load_model(case.experiment, path, CPU)
    if not torch.equal(loaded.codes(case.queries), case.trained.model.codes(case.queries)):
        return "the loaded model gives other codes; keep what encoding needs in buffers."
    if not _same(loaded.state(), case.trained.model.state()):
        return "the loaded model has another state; make all modules and buffers in setup, head, attach or fit."
    return None


def trains_for_one_length(case: Case) -> str | None:
    """Train for one code length alone, where the other checks train for two."""
    codes = replace(case, lengths=(case.bits,)).trained.model.codes(case.queries)
    wanted = (NUM_QUERIES, case.bits)
    return None if tuple(codes.shape) == wanted else f"the codes are of shape {tuple(codes.shape)}, not {wanted}."


def writes_its_rows(case: Case) -> str | None:
    """Look for rows of a memory that a step writes although their samples are not in its batch."""
    model, batch = case.new_model(), next(iter(case.data().batches()))
    assert isinstance(model.method, DeepMethod)
    before = memories(model)
    _step(model, case)
    assert model.network is not None
    with torch.no_grad():
        model.method.after_step(model.network, batch)
    for name in model.method.keeps_samples:
        written = _changed(before[name], model.method.get_buffer(name))
        written[batch.index] = False
        if written.any():
            return f"a step writes rows of '{name}' whose samples are not in its batch."
    return None


def memory_is_whole(case: Case) -> str | None:
    """Train by two ranks, and compare which rows are written with those of one process."""
    targets = [target_of(cls) for cls in reversed(classes_of(case.cls, resolve(case.cls, {})))]
    found = None if None in targets else memories_of_ranks(case, [target for target in targets if target])
    if found is None:
        raise NotApplicable("no other process finds its class; decorate it in a file or module.")
    first, second = found
    model = case.trained.model
    assert isinstance(model.method, DeepMethod)
    before, alone = memories(case.new_model()), memories(model)
    for name, rows in first.items():
        if not torch.equal(rows, second[name]):
            return f"after a training by two ranks, '{name}' differs between them."
        if not torch.equal(_changed(before[name], rows), _changed(before[name], alone[name])):
            declared = name in model.method.keeps_samples
            way = "write those of batch.index" if declared else "declare it in keeps_samples"
            return f"two ranks write other rows of '{name}' than one process; {way}."
    return None


def prepares_for_all_bits(case: Case) -> str | None:
    """Compare what is prepared for the longest codes with what was prepared for the shortest."""
    if not overrides_prepare(case.cls):
        raise NotApplicable("it prepares nothing.")
    if case.bits != max(BITS):
        return None
    return None if _same(case.prepare(), case.prepared) else "prepare gives something else at another code length."


def meets_on_the_device(case: Case) -> str | None:
    """Call all hooks on a CUDA device."""
    found = case.on_gpu
    if found.missing is not None:
        raise NotApplicable(found.missing)
    if found.error is not None:
        raise found.error
    return None


def never_waits(case: Case) -> str | None:
    """Look for what made a step, or encoding, wait for a CUDA device."""
    found = case.on_gpu
    if found.missing is not None:
        raise NotApplicable(found.missing)
    if issubclass(case.cls, LossAsMethod):
        raise NotApplicable("a loss class of this shape is given positions on the CPU in each step.")
    if found.waits:
        return "; ".join(found.waits)
    if found.error is not None:
        raise NotApplicable("not all of its steps could be taken.")
    return None


def _changed(before: Tensor, after: Tensor) -> Tensor:
    """Return which rows differ, bool (n,)."""
    return (before != after).flatten(1).any(dim=1) if before.ndim > 1 else before != after


def _step(model: Model, case: Case) -> Any:
    """Return the loss terms of the first training step of a model, with their gradients to be taken."""
    assert isinstance(model.method, DeepMethod)
    assert model.network is not None
    model.network.train()
    model.method.train()
    terms, _ = model.method.training_step(model.network, next(iter(case.data().batches())))
    return terms


def _same(one: Any, other: Any) -> bool:
    """Tell whether two states, tensors in nested dicts and lists, are equal bit for bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


class Check(NamedTuple):
    """The text of a verdict's line, and the function that decides it."""

    what: str
    run: Callable[[Any], str | None]  # on a Case, or a PairCase
    decides: bool = False  # whether a case that fails here gets no further checks
    once: bool = False  # whether it is enough to check the first case


COMMON_CHECKS = (
    Check("codes are bool (n, bits)", codes_are_bool),
    Check("a code depends on its own input alone", codes_stand_alone),
    Check("one seed gives one result", seed_decides),
    Check("a class without samples does no harm", survives_a_missing_class),
    Check("a saved model gives the same codes", state_survives),
    Check("on a GPU, its tensors lie on the task's device", meets_on_the_device),
    Check("on a GPU, no step waits for the device", never_waits),
)
FITTED_CHECKS = (Check("it fits, and keeps its state in buffers", trains, decides=True), *COMMON_CHECKS)
DEEP_CHECKS = (
    Check("loss terms are named scalars", terms_are_named_scalars, decides=True),
    Check("gradients are finite", gradients_are_finite, decides=True),
    Check("every parameter is optimised", parameters_are_optimised),
    Check("it trains with finite losses", trains, decides=True),
    Check("epoch hooks run, with sums in float64", hooks_run),
    *COMMON_CHECKS,
    Check("a resumed training equals an uninterrupted one", resumes),
    Check("what is prepared does not depend on the code length", prepares_for_all_bits),
)
MEMORY_CHECKS = (
    Check("a step writes the memory's rows of its batch alone", writes_its_rows),
    Check("two ranks make the memory whole", memory_is_whole, once=True),
)
PREFIX_CHECKS = (Check("it trains for one code length as for several", trains_for_one_length),)
