"""A method with the network that it trains: built for a task, saved with its run, loaded to encode images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hashbench.datasets.loading.augment import resize, to_unit
from hashbench.datasets.loading.loader import inference_batches
from hashbench.datasets.sparse import is_sparse
from hashbench.errors import HashbenchError
from hashbench.methods.contract import DeepMethod, Method, Task, TrainingData, base_of
from hashbench.networks.network import HashNetwork, HiddenLayer, extractor, input_shape
from hashbench.recipes import Recipe
from hashbench.registry import BACKBONES
from hashbench.storage.tensorfiles import Unusable, load, save
from hashbench.system import seeds

if TYPE_CHECKING:
    from hashbench.datasets.sparse import Inputs

ENCODE_BATCH = 512
ROUNDING = 0.01  # how far resizing and float16 may take pixels out of [0, 1]; no other convention stays as near


@contextmanager
def true_float32() -> Iterator[None]:
    """Keep a GPU from computing convolutions of float32 in TF32: the recipe sets the precision, not the device."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        yield


class Model:
    """A method, and for a deep one its network; turns what the method learns from (or images) into codes."""

    def __init__(
        self,
        method: Method,
        task: Task,
        recipe: Recipe,
        shape: tuple[int, ...],
        *,
        width: int,
        prepared: dict[str, Tensor],
        weights_follow: bool = False,
        start: Mapping[str, Any] | None = None,
    ):
        """Build it untrained for inputs of `shape`; `width` is theirs where the method does not learn from images.

        Where all `weights_follow` from a run's state, pretrained ones are not read. A training that starts from another
        run's begins with its state: of the network, and of the method or the base that it wraps.
        """
        self.method = method
        self.task = task
        self.bits = task.bits  # of the codes it gives: the first of each code where they are fewer than the task's
        self.recipe = recipe
        self.shape = shape
        self.width = width
        self.prepared = prepared
        self.network: HashNetwork | None = None
        if isinstance(method, DeepMethod):
            pretrained = recipe.pretrained and not (weights_follow or start)
            backbone = make_backbone(task, recipe, shape, width, pretrained=pretrained)
            seeds.seed_globals(task.seed, "init", "method")
            method.setup(task, prepared)
            self.network = make_network(backbone, lambda width: method.head(width, task), task, recipe)
            if start is not None:
                self.network.load_state_dict(start["network"])  # before a method makes copies of it
            seeds.seed_globals(task.seed, "init", "attach")
            method.attach(self.network, task)
            if start is not None:
                (base_of(method) or method).load_state_dict(start["method"])
            _refuse_shared_state(method, self.network)
            _refuse_unkept_samples(method, task)
        method.to(task.device)

    @classmethod
    def load(
        cls, path: Path, method: Method, task: Task, recipe: Recipe, shape: tuple[int, ...], *, of: str | None = None
    ) -> Model:
        """Return the trained model that `save` wrote.

        Raises HashbenchError where the file is damaged, is of another run than `of`, or does not fit the method.
        """
        try:
            state = load(path, task.device, of=of, unmarked=True)
            with seeds.globals_kept(task.device):  # loading a model is no draw of whoever loads it
                model = cls(
                    method, task, recipe, shape, width=state["width"], prepared=state["prepared"], weights_follow=True
                )
            model.load_state(state)
        except HashbenchError:
            raise
        except Unusable as error:
            raise HashbenchError(f"{path} {error}; copy the run's own along, or run again.") from error
        except Exception as error:
            raise HashbenchError(f"{path} does not fit this version of {method.info.name}: {error}") from error
        return model

    @property
    def input_size(self) -> int:
        """Pixels to which the loader resizes what the network sees; 0 where it sees the inputs as they are."""
        return self.recipe.size if self.task.inputs == "images" else 0

    def fit(self, data: TrainingData) -> None:
        """Have a method without network learn from `data`; what it draws from global generators follows from the seed.

        The buffers that it makes are moved to the task's device. Raises TypeError for a deep method.
        """
        seeds.seed_globals(self.task.seed, "fit")
        self.method.fit(self.task, data)
        self.method.to(self.task.device)

    @torch.inference_mode()
    def codes(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of a batch of what the method learns from, on its device."""
        if self.network is None:
            return self._first_bits(self.method.encode(inputs))
        assert isinstance(self.method, DeepMethod)
        self.network.eval()
        self.method.eval()
        return self._first_bits(self.method.codes(self.network(inputs)))

    @true_float32()
    @torch.inference_mode()
    def encode(self, images: Inputs | Tensor, *, batch_size: int = ENCODE_BATCH, real: bool = False) -> np.ndarray:
        """Return the codes, bool (n, bits), of images (n, channels, height, width), uint8 or floats in [0, 1].

        Images of another size are resized to the data set's first (bilinear, antialiased), then treated as in training.
        Vectors (n, width) are taken as they are, also the rows of a CSR matrix. With `real`, the network's outputs,
        float32 (n, bits), are returned, of which a one is 0 or more; their sizes say how sure a bit is. Raises
        HashbenchError for other pixels, where the shape does not fit, and with `real` for a method whose codes are no
        signs of outputs.
        """
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise HashbenchError(
                f"The inputs cannot be encoded {batch_size} at a time; give 1 or more, a whole number."
            )
        given = images if is_sparse(images) else _as_tensor(images)
        if given.ndim != len(self.shape) + 1 or given.shape[1] != self.shape[0]:
            sides = ", ".join(map(str, self.shape))
            raise HashbenchError(f"The inputs have shape {tuple(given.shape)}; this run takes (n, {sides}).")
        found = [np.empty((0, self.bits), dtype=np.float32 if real else bool)]
        batches: Iterable[Tensor]
        if is_sparse(given):
            batches = inference_batches(given, batch_size=batch_size, device=self.task.device)
        else:
            batches = given.split(batch_size)
        for batch in batches:
            _refuse_other_pixels(batch)
            inputs = self.prepared_inputs(batch)
            found.append(self._signed_outputs(inputs) if real else self.codes(inputs).cpu().numpy())
        return np.concatenate(found)

    def outputs(self, images: Tensor) -> Tensor:
        """Return the network's outputs (n, width of the head), float32, for images as `encode` takes them, as a batch.

        Gradients flow back to images of floats. Raises HashbenchError for a method that has no network, and for other
        pixels.
        """
        if self.network is None:
            raise HashbenchError(f"'{self.method.info.name}' has no network, so there are no outputs to differentiate.")
        _refuse_other_pixels(images)
        self.network.eval()
        self.method.eval()
        return self.network(self.prepared_inputs(images))

    def _signed_outputs(self, inputs: Tensor) -> np.ndarray:
        """Return the outputs (n, bits) of a batch of what the method learns from, whose signs are its codes."""
        if self.network is None:
            raise HashbenchError(f"'{self.method.info.name}' has no network, so its codes have no real-valued outputs.")
        assert isinstance(self.method, DeepMethod)
        self.network.eval()
        self.method.eval()
        found = self.network(inputs)
        codes = self._first_bits(self.method.codes(found)).cpu().numpy()
        outputs: np.ndarray = found[:, : self.bits].cpu().numpy()
        if outputs.shape != codes.shape or not np.array_equal(outputs >= 0, codes):
            raise HashbenchError(
                f"The codes of '{self.method.info.name}' are no signs of its outputs, so none says how sure a bit is."
            )
        return outputs

    def save(self, path: Path, *, of: str | None = None) -> None:
        """Write what the run `of` keeps, weights and buffers only; raises HashbenchError when it cannot be written."""
        save({"width": self.width, "prepared": self.prepared, **self.state()}, path, of=of)

    def state(self) -> dict[str, Any]:
        """Return the weights and buffers of method and network by name."""
        return {
            "method": self.method.state_dict(),
            "network": None if self.network is None else self.network.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Set weights and buffers to what `state` of a trained model returned."""
        if self.network is None:  # a method that is fitted makes its buffers then
            for name, value in state["method"].items():
                self.method.register_buffer(name, value.to(self.task.device))
        else:
            self.method.load_state_dict(state["method"])
            self.network.load_state_dict(state["network"])

    def prepared_inputs(self, batch: Tensor) -> Tensor:
        """Return a batch of images or vectors, as `encode` takes them, as what the method learns from."""
        inputs = self._prepared(batch)
        return inputs if self.extractor is None else self.extractor(inputs)

    def _first_bits(self, codes: Tensor) -> Tensor:
        return codes if self.bits == self.task.bits else codes[:, : self.bits]

    def _prepared(self, batch: Tensor) -> Tensor:
        """Return a batch as the loader would yield it: float in [0, 1], at the data set's size, then the recipe's."""
        batch = batch.to(self.task.device)
        batch = to_unit(batch) if batch.dtype == torch.uint8 else batch.float()
        if batch.ndim != 4:
            return batch
        _, height, width = self.shape
        size = 0 if self.task.inputs == "pixels" else self.recipe.size
        return resize(resize(batch, (height, width)), size).contiguous(memory_format=torch.channels_last)

    @cached_property
    def extractor(self) -> nn.Module | None:
        """What comes between images and the method's inputs; built on first use, since runs have its outputs cached."""
        found = extractor(self.task.inputs, self.shape, self.recipe)
        return None if found is None else found.to(self.task.device)


def _as_tensor(inputs: Any) -> Tensor:
    """Return inputs as a tensor, also from arrays that torch does not take: with negative strides, or big-endian."""
    if isinstance(inputs, Tensor):
        return inputs
    try:
        array = np.asarray(inputs)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        return torch.as_tensor(array.copy() if min(array.strides, default=0) < 0 else array)
    except (TypeError, ValueError) as error:
        raise HashbenchError(
            f"The inputs, a {type(inputs).__name__}, are no array of numbers; give a tensor or an array of numpy."
        ) from error


def _refuse_other_pixels(batch: Tensor) -> None:
    """Raise HashbenchError for images that are neither uint8 nor floats in [0, 1]; vectors may hold any number."""
    if batch.ndim != 4 or batch.dtype == torch.uint8 or not len(batch):
        return
    way = "give uint8 from 0 to 255, or floats in [0, 1]"
    if not batch.is_floating_point():
        raise HashbenchError(f"The images are of type {str(batch.dtype).removeprefix('torch.')}; {way}.")
    lowest, highest = torch.stack(batch.detach().aminmax()).tolist()  # NaN where one is
    if not -ROUNDING <= lowest <= highest <= 1 + ROUNDING:
        found = "NaN" if np.isnan(lowest) else f"values from {lowest:.4g} to {highest:.4g}"
        raise HashbenchError(f"The images hold {found}; {way}.")


def make_network(
    backbone: nn.Module, make_head: Callable[[int], nn.Module], task: Task, recipe: Recipe, *, purpose: str = "init"
) -> HashNetwork:
    """Return backbone and head as one network on the task's device, in the memory format that convolutions like best.

    `make_head(width)` returns the head over so many features; between the two is the recipe's hidden layer, if any. The
    fresh weights of both are drawn from the seed's streams for `purpose`.
    """
    width, hidden = int(backbone.width), None  # type: ignore[arg-type]
    if recipe.hidden:
        seeds.seed_globals(task.seed, purpose, "hidden")
        hidden = HiddenLayer(width, recipe.hidden)
        width = recipe.hidden
    seeds.seed_globals(task.seed, purpose, "head")
    network = HashNetwork(backbone, make_head(width), recipe.precision, hidden=hidden)
    return network.to(task.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def make_backbone(
    task: Task, recipe: Recipe, shape: tuple[int, ...], width: int, *, pretrained: bool, purpose: str = "init"
) -> nn.Module:
    """Return the backbone that is trained, its fresh weights drawn from the seed's stream for `purpose`.

    `shape` is that of the data set's inputs; `width` that of the features or pixels that the method learns from, where
    no backbone is trained.
    """
    seeds.seed_globals(task.seed, purpose, "backbone")
    if task.inputs in ("features", "pixels"):
        return BACKBONES.get("identity")((width,), False)
    return BACKBONES.get(recipe.backbone)(input_shape(shape, recipe.size), pretrained)


def _refuse_shared_state(method: DeepMethod, network: HashNetwork) -> None:
    """Raise HashbenchError where a method has registered the network or a part of it as its own."""
    theirs = {id(part): name or "the network" for name, part in [*network.named_modules(), *network.named_parameters()]}
    for name, part in [*method.named_modules(), *method.named_parameters()]:
        if id(part) in theirs:
            raise HashbenchError(
                f"{method.info.name}.{name} is a part of the network ({theirs[id(part)]}), which would be trained and "
                f"saved twice; use the network that training_step and after_step are given, or keep "
                f"copy.deepcopy(network).requires_grad_(False)."
            )


def _refuse_unkept_samples(method: DeepMethod, task: Task) -> None:
    """Raise HashbenchError where a name in `keeps_samples` is no buffer with a row for each training sample."""
    buffers = dict(method.named_buffers())
    for name in method.keeps_samples:
        shape = tuple(buffers[name].shape) if name in buffers else None
        if not shape or shape[0] != task.num_train:
            found = "is no buffer" if shape is None else f"has shape {shape}"
            raise HashbenchError(
                f"{method.info.name}.keeps_samples names '{name}', which {found}; make it in setup or attach by "
                f"register_buffer, with {task.num_train} rows (task.num_train)."
            )
