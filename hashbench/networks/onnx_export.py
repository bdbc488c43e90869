"""A trained model as an ONNX file: images in [0, 1] in, outputs and codes out, the preprocessing inside."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hashbench.errors import HashbenchError
from hashbench.methods.contract import DeepMethod
from hashbench.metrics.hamming import pack
from hashbench.networks.model import Model
from hashbench.storage.files import make_folder, replacing

CHECKED = 64  # random inputs on which the file must give the model's codes
ROUNDING = 1e-4  # of the largest output: a smaller one may get another sign by another order of additions


def write_onnx(model: Model, path: Path, about: Mapping[str, str]) -> str:
    """Write a trained model on the CPU to `path`, with `about` among its properties; returns a sentence on it.

    The file takes `images` (n, *shape), float32, any n, of the data set's own size, and gives `codes` (n, bits) bool,
    `packed` (n, ceil(bits / 8)) uint8, first bit highest, and of a network its `outputs` (n, width of the head).
    It is written where onnxruntime gives the model's codes on random inputs. Raises HashbenchError where it does not,
    where the model cannot be expressed, and without the libraries.
    """
    runtime = _libraries()
    if model.recipe.precision != "fp32":
        raise HashbenchError(
            f"This run computes in {model.recipe.precision}, whose rounding ONNX does not repeat, so codes would "
            f"differ; train it with --set recipe.precision=fp32, or take it along as a bundle (.zip)."
        )
    encoder = _Encoder(model).eval()
    example = torch.rand(2, *model.shape, generator=torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                encoder,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=encoder.names,
                dynamic_shapes=({0: torch.export.Dim("n", max=2**31)},),
            )
        assert program is not None
        proto = program.model_proto
    except Exception as error:  # torch raises a dozen kinds
        reason = " ".join(str(error.__cause__ or error).split())[:300]  # torch's own says only that it failed
        raise HashbenchError(
            f"The model of '{model.method.info.name}' with '{model.recipe.backbone}' cannot be written as ONNX "
            f"({type(error).__name__}: {reason}); take it along as a bundle (.zip)."
        ) from error
    for key, value in {**about, "bits": str(model.bits), "input": "values in [0, 1]"}.items():
        proto.metadata_props.add(key=f"hashbench.{key}", value=value)
    content = proto.SerializeToString()
    _check(runtime, content, model)
    make_folder(path.parent)
    with replacing(path) as file:
        file.write(content)
    sides = ", ".join(map(str, model.shape))
    return (
        f"{path}: {len(content) / 1e6:,.1f} MB; takes images (n, {sides}), float32 in [0, 1], and gives "
        f"{', '.join(encoder.names)}. onnxruntime gave the model's codes on {CHECKED} random inputs."
    )


class _Encoder(nn.Module):
    """What `Model.encode` does, as one module whose codes are packed, too."""

    def __init__(self, model: Model):
        super().__init__()
        self._model = [model]  # in a list, for it is no module
        self._parts = nn.ModuleList(filter(None, (model.method, model.network, model.extractor)))
        self.names = ["codes", "packed"] if model.network is None else ["codes", "packed", "outputs"]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        (model,) = self._model
        inputs = model.prepared_inputs(images)
        outputs: tuple[Tensor, ...] = ()
        if model.network is None:
            codes = model.method.encode(inputs)
        else:
            assert isinstance(model.method, DeepMethod)
            outputs = (model.network(inputs),)
            codes = model.method.codes(*outputs)
        codes = codes[:, : model.bits]
        bytes_of = F.pad(codes.to(torch.int32), (0, -model.bits % 8)).unflatten(1, (-1, 8))
        places = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.int32)
        return codes, (bytes_of * places).sum(dim=2).to(torch.uint8), *outputs


def _libraries() -> Any:
    """Return onnxruntime; raises HashbenchError without what writes and reads ONNX."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise HashbenchError(f"ONNX needs {error.name}; install it with pip install 'hashbench[onnx]'.") from None
    with suppress(AttributeError):
        onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def _check(runtime: Any, content: bytes, model: Model) -> None:
    """Raise HashbenchError where onnxruntime cannot run the file, or it gives other codes than the model."""
    images = torch.rand(CHECKED, *model.shape, generator=torch.Generator().manual_seed(1))
    try:
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        found = dict(zip([each.name for each in session.get_outputs()], session.run(None, {"images": images.numpy()}),
                         strict=True))  # fmt: skip
    except Exception as error:  # onnxruntime's kinds have no common base
        reason = " ".join(str(error).split())[:300]
        raise HashbenchError(
            f"onnxruntime cannot run the model as ONNX ({type(error).__name__}: {reason}), so nothing was written; "
            f"take it along as a bundle (.zip)."
        ) from error
    expected = model.encode(images)
    different = found["codes"] != expected
    if model.network is not None and found["outputs"].shape == different.shape:
        sizes = np.abs(found["outputs"])
        different &= sizes > ROUNDING * sizes.max()
    if different.any() or not np.array_equal(pack(found["codes"]), found["packed"]):
        raise HashbenchError(
            f"As ONNX, the model gives {int(different.sum())} other bits on {CHECKED} random inputs than by itself, "
            f"so nothing was written; take it along as a bundle (.zip)."
        )
