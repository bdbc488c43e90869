"""A CUDA device without a GPU: torch's fake tensors say where each tensor lies, the CPU computes what is in it.

Under `FakeCuda`, tensors on "cuda" are fake ones of torch's FakeTensorMode, which raises where devices are mixed. Each
holds its values as a tensor of the CPU too, so that code that goes to the host, as it may once an epoch, goes on.
Where a step waits for the device is noted, with the line that made it wait.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


class FakeCuda:
    """The context in which "cuda" is a device; a step waited for it `waited` times, in the places `waits`."""

    def __init__(self, files: Collection[str]):
        """Name places by the innermost line in one of `files`."""
        self.waits: list[str] = []
        self.waited = 0
        self.step: str | None = None  # the hook that runs, where it must not wait
        self.fakes = FakeTensorMode(allow_non_fake_inputs=True)
        self._files = files
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Begin; raises RuntimeError where this torch cannot name such a device."""
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message=".*CUDA is not available", category=UserWarning)  # autocast's
            # Kernels that only a GPU has could not be computed.
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(self.fakes)
            stack.enter_context(_Operators(self))
            stack.enter_context(_Functions())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """End; its tensors are of no use any more."""
        self._stack.close()

    @contextmanager
    def never_waiting(self, hook: str) -> Iterator[None]:
        """Note each wait for the device in what follows, a call of `hook`."""
        self.step = hook
        try:
            yield
        finally:
            self.step = None

    def note(self, why: str) -> None:
        """Note that the step waits, and where."""
        if self.step is None:
            return
        self.waited += 1
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_filename not in self._files:
            frame = frame.f_back  # type: ignore[assignment]
        place = f" (line {frame.f_lineno} of {frame.f_code.co_filename})" if frame else ""
        told = f"{self.step} {why}{place}"
        if told not in self.waits:
            self.waits.append(told)

    def fake(self, value: Any) -> Any:
        """Return a tensor of the CPU without its values."""
        if not isinstance(value, Tensor) or isinstance(value, FakeTensor):
            return value
        return self.empty_like(value, value.device)

    def empty_like(self, real: Tensor, device: torch.device) -> Tensor:
        """Return a fake tensor of the shape and type of a real one, on `device`."""
        with self.fakes:
            return torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device=device)


class _Operators(TorchDispatchMode):
    """Every operator twice: on fake tensors for devices, on the CPU for values."""

    def __init__(self, device: FakeCuda):
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: value for name, value in (kwargs or {}).items() if name != "pin_memory"}  # which needs a driver
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
        target = kwargs.get("device")
        if func is aten._pin_memory.default:
            return args[0]
        if not on_device and (target is None or torch.device(target).type == "cpu"):
            with _disable_current_modes():
                return func(*args, **kwargs)
        if func.namespace == "prim":  # a question about the tensor itself
            return func(*args, **kwargs)
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # in inference mode torch leaves it to us
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        # Before an operator in place changes the shape of a fake tensor:
        given, named = tree_map(_values, args), tree_map(_values, kwargs)
        fake, known = self._on_fakes(func, args, kwargs, tensors)
        self._look(func, args, kwargs, fake)
        real = self._on_cpu(func, given, named, fake)
        return self._paired(fake, real) if known else self._paired_anew(real)

    def _on_fakes(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> tuple[Any, bool]:
        """Return what comes out on fake tensors, and whether that can be known without values."""
        try:
            with self._device.fakes:
                return func(*tree_map(self._device.fake, args), **tree_map(self._device.fake, kwargs)), True
        except (DataDependentOutputException, DynamicOutputShapeException):
            self._device.note(f"waits for the device: {_name(func)} needs values, for a number or a shape")
            return None, False
        except Exception as error:
            devices = sorted({str(tensor.device) for tensor in tensors})
            if len(devices) < 2:  # torch knows no fake of it; what is wrong in itself fails on the CPU too
                return None, False
            raise RuntimeError(
                f"{_name(func)} is given tensors on {' and '.join(devices)}; keep what training needs in buffers, or "
                f"move it to task.device"
            ) from error

    def _look(self, func: Any, args: Any, kwargs: Any, fake: Any) -> None:
        """Note what waits although shapes are known, and refuse what only a GPU would."""
        outputs = [leaf for leaf in tree_leaves(fake) if isinstance(leaf, Tensor)]
        for leaf in tree_leaves((args, kwargs)):
            on = {tensor.device.type for tensor in outputs}
            if isinstance(leaf, torch.Generator) and leaf.device.type not in on:
                raise RuntimeError(
                    f"{_name(func)} is given a generator of the {leaf.device.type} for a tensor on "
                    f"{', '.join(on)}; draw it on the CPU and move it"
                )
        note = self._device.note
        if func is aten._to_copy.default or func is aten.copy_.default:
            source = args[0] if func is aten._to_copy.default else args[1]
            before, after = source.device.type, outputs[0].device.type
            if before == "cuda" and after == "cpu":
                note("waits for the device: a tensor is copied to the CPU")
            elif before == "cpu" and after == "cuda" and not _non_blocking(func, args, kwargs):
                note("waits for the device: a tensor is copied from the CPU")
        elif func is aten._linalg_check_errors.default:
            note("waits for the device: torch.linalg looks whether it went well; see its functions that end in _ex")
        elif func in _INDEXING:
            indices = [index for index in args[1] if index is not None]
            if any(index.device.type == "cpu" for index in indices):
                note("waits for the device: an index lies on the CPU")
            elif len(args) > 2 and args[2].numel() != 1 and any(index.dtype == torch.bool for index in indices):
                note("waits for the device: how many places a mask has must be known")

    def _on_cpu(self, func: Any, args: Any, kwargs: Any, fake: Any) -> Any:
        """Return what comes out on the CPU; zeros for a kernel that only a GPU has."""
        if "device" in kwargs:
            kwargs = {**kwargs, "device": CPU}
        with _disable_current_modes():
            try:
                return func(*args, **kwargs)
            except NotImplementedError:
                return tree_map(lambda leaf: _zeros(leaf) if isinstance(leaf, Tensor) else leaf, fake)

    def _paired(self, fake: Any, real: Any) -> Any:
        """Return the fake tensors with their values; a tensor of the CPU is the real one."""
        if isinstance(fake, list | tuple):
            pairs = [self._paired(*pair) for pair in zip(fake, real, strict=True)]
            return type(fake)(pairs)
        if not isinstance(fake, FakeTensor):
            return real
        if fake.device.type == "cpu":
            return real
        if real.stride() != fake.stride():  # a GPU's kernel may lay out what it makes in another way
            with _disable_current_modes():
                real = torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype).copy_(real)
        fake.values_on_cpu = real  # type: ignore[attr-defined]
        return fake

    def _paired_anew(self, real: Any) -> Any:
        def paired(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            fake = self._device.empty_like(leaf, CUDA)
            fake.values_on_cpu = leaf  # type: ignore[attr-defined]
            return fake

        return tree_map(paired, real)


class _Functions(TorchFunctionMode):
    """What torch does not hand on to operators: numpy, formats, copies of a tensor, gradients."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        stand_in = _STAND_INS.get(func)
        if stand_in is None or not any(isinstance(leaf, FakeTensor) for leaf in tree_leaves(args)):
            return func(*args, **kwargs)
        return stand_in(*args, **kwargs)


def _no_numpy(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
    raise TypeError(f"a tensor on {tensor.device} cannot become an array of numpy; use Tensor.cpu() first")


def _copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(copy, tensor.requires_grad) if is_parameter else copy
    return memo[id(tensor)]


def _gradients(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    return tuple(map(torch.zeros_like, [inputs] if isinstance(inputs, Tensor) else inputs))


_STAND_INS: dict[Any, Callable[..., Any]] = {
    Tensor.numpy: _no_numpy,
    Tensor.__array__: _no_numpy,
    Tensor.__deepcopy__: _copied,
    # The pass back needs streams, which a GPU has; shapes and devices of its outcome are known.
    torch.autograd.grad: _gradients,
    Tensor.backward: lambda *args, **kwargs: None,
    Tensor.__format__: lambda tensor, spec: format(tensor.item() if tensor.ndim == 0 else str(tensor), spec),
}
_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


def _values(leaf: Any) -> Any:
    """Return the values of a fake tensor; zeros where `tensor.data = other` gave it another shape."""
    if not isinstance(leaf, FakeTensor):
        return leaf
    values = getattr(leaf, "values_on_cpu", None)
    return values if values is not None and values.shape == leaf.shape else _zeros(leaf)


def _zeros(fake: Tensor) -> Tensor:
    with _disable_current_modes():
        return torch.zeros(fake.shape, dtype=fake.dtype)


def _non_blocking(func: Any, args: Any, kwargs: Any) -> bool:
    return bool(kwargs.get("non_blocking") or (func is aten.copy_.default and len(args) > 2 and args[2]))


def _name(func: Any) -> str:
    """Return an operator's name, with that of the Python call where it is another."""
    name = func.overloadpacket.__name__
    return {"_local_scalar_dense": "item(), bool() or float()"}.get(name, name)
