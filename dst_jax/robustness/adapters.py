"""Networks of PyTorch and ONNX as predict functions for `evaluate`.

They normalise images, and give the weights that identify the model. Each is a `HostFunction`; its
framework is imported when it is asked for. For users, through `dst_jax.robustness`; other
frameworks are in docs/robustness.md.
"""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dst_jax.errors import UserError
from dst_jax.robustness.predict_functions import HostFunction

_LAYOUTS = ("NCHW", "NHWC")


def torch_predict(
    module: Any,
    mean: Sequence[float],
    std: Sequence[float],
    layout: str = "NCHW",
    device: Any = None,
) -> HostFunction:
    """A PyTorch module as a predict function: (images / 255 - mean) / std, then the module.

    As torchvision's ToTensor and Normalize do it, in float32; the module then gets the type of its
    weights. It is asked in evaluation mode and without gradients; afterwards each part of it is in
    the mode that it was in. Images that JAX has on the module's device are handed over by DLPack,
    without a copy; others go through the host's memory.

    Args:
      module: a `torch.nn.Module` that gives logits [B, classes], or an object whose `logits` they
        are.
      mean: of each channel, for images in [0, 1]; as the network was trained.
      std: likewise.
      layout: "NCHW" or "NHWC", what the module takes.
      device: where to move the module, as `torch.device` takes it; None: it stays.

    Raises:
      UserError: an argument is wrong, or PyTorch is not installed.
    """
    torch = _imported("torch", "torch_predict")
    if not isinstance(module, torch.nn.Module):
        raise UserError("module", type(module).__name__, "a torch.nn.Module")
    offsets, scales = _statistics(mean, std, layout)
    if device is not None:
        module.to(device)
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    where, dtype = first.device, first.dtype
    shape = (3, 1, 1) if layout == "NCHW" else (3,)
    shift, scale = (torch.tensor(v, device=where).reshape(shape) for v in (offsets, scales))

    def tensor(images: Any) -> Any:
        if isinstance(images, jax.Array) and len(images.devices()) == 1:
            (of_jax,) = images.devices()
            if of_jax.platform == "cpu" or (of_jax.platform == "gpu" and where.type == "cuda"):
                return torch.from_dlpack(images)
        return torch.tensor(np.asarray(images))  # a copy: PyTorch has no arrays to read only

    def function(images: Any) -> np.ndarray:
        _check_levels(images)
        training = [part for part in module.modules() if part.training]
        if training:
            module.eval()
        try:
            with torch.no_grad():
                given = tensor(images).to(where)
                if layout == "NCHW":
                    given = given.permute(0, 3, 1, 2).contiguous()
                given = given.to(torch.float32).div_(255).sub_(shift).div_(scale).to(dtype)
                logits = module(given)
                # On the host before `images` may be freed, which PyTorch may still be reading.
                return getattr(logits, "logits", logits).to(torch.float32).cpu().numpy()
        finally:
            for part in training:
                part.training = True

    def weights() -> list[Any]:
        tensors = [v for v in module.state_dict().values() if isinstance(v, torch.Tensor)]
        # As bytes: NumPy has no bfloat16.
        flat = [t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in tensors]
        return [*(t.numpy() for t in flat), offsets, scales, layout == "NCHW"]

    return HostFunction(function, weights, takes_jax=True)


def onnx_predict(
    path: str | Path,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layout: str = "NCHW",
    providers: Sequence[Any] = (),
) -> HostFunction:
    """A network in an ONNX file as a predict function, run by ONNX Runtime.

    A network whose input is uint8 gets the images as they are. Any other gets
    (images / 255 - mean) / std. One that was exported for a fixed number of images gets so many at
    a time. The first output counts.

    Args:
      path: the file; weights in files beside it are found by ONNX Runtime.
      mean: of each channel, for images in [0, 1]; None: images in [0, 1] are what it takes.
      std: likewise.
      layout: "NCHW" or "NHWC", what it takes.
      providers: what ONNX Runtime shall run it on, as `onnxruntime.InferenceSession` takes them;
        by default CUDA if it is there, and the CPU.

    Raises:
      UserError: an argument is wrong, the file is not there or is no network of one input, or ONNX
        Runtime is not installed.
    """
    onnxruntime = _imported("onnxruntime", "onnx_predict")
    path = Path(path)
    if not path.is_file():
        raise UserError("path", f"no file {path}", "an ONNX file")
    known = onnxruntime.get_available_providers()
    chosen = providers or [
        p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in known
    ]
    try:
        session = onnxruntime.InferenceSession(str(path), providers=list(chosen))
    except Exception as error:  # its own classes, for each kind of failure
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise UserError("path", f"{path}, {reason}", "an ONNX file that can be run") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        raise UserError("path", f"{path} with the inputs {names}", "a network of one input")
    kind = inputs[0].type.removeprefix("tensor(").removesuffix(")")
    dtypes = {"uint8": "uint8", "float16": "float16", "float": "float32", "double": "float64"}
    if kind not in dtypes:
        expected = f"one of {', '.join(dtypes)}"
        raise UserError("path", f"{path} with an input of type {kind}", expected)
    as_they_are = kind == "uint8"
    if as_they_are and (mean is not None or std is not None):
        found = f"a value, where the input of {path} is uint8"
        raise UserError("mean or std", found, "None: the network normalises by itself")
    offsets, scales = _statistics(
        (0, 0, 0) if mean is None else mean, (1, 1, 1) if std is None else std, layout
    )
    size = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else 0
    output = session.get_outputs()[0].name

    def function(images: np.ndarray) -> np.ndarray:
        _check_levels(images)
        given = images if as_they_are else (images / np.float32(255) - offsets) / scales
        if layout == "NCHW":
            given = given.transpose(0, 3, 1, 2)
        given = np.ascontiguousarray(given, dtypes[kind])
        count, at_once = len(given), size or len(given)
        found = []
        for start in range(0, count, at_once):
            part = given[start : start + at_once]
            if missing := at_once - len(part):
                part = np.pad(part, [(0, missing), *[(0, 0)] * (part.ndim - 1)])
            found += session.run([output], {inputs[0].name: part})
        return np.concatenate(found)[:count]

    def weights() -> list[Any]:
        content = [np.frombuffer(c, np.uint8) for c in _files(path)]
        return [*content, offsets, scales, layout == "NCHW"]

    return HostFunction(function, weights)


def _check_levels(images: Any) -> None:
    """Refuses what somebody gives who has divided by 255 already, or put the channels first."""
    found = f"{images.dtype} {list(images.shape)}"
    if str(images.dtype).removeprefix("torch.") != "uint8" or images.shape[-1] != 3:
        raise UserError("predict: images", found, "uint8 [B, H, W, 3], which it normalises")


def _imported(name: str, where: str) -> Any:
    """A package that not everybody has."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(where, f"no {name}", f"the package, `pip install {name}`") from None


def _statistics(
    mean: Sequence[float], std: Sequence[float], layout: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation as float32 [3], checked."""
    if layout not in _LAYOUTS:
        raise UserError("layout", layout, " or ".join(_LAYOUTS))
    found = []
    for name, values in (("mean", mean), ("std", std)):
        array = np.asarray(values, np.float32)
        if array.shape != (3,) or not np.isfinite(array).all() or np.abs(array).max() > 10:
            raise UserError(name, values, "three numbers, for images in [0, 1]")
        found.append(array)
    if not (found[1] > 0).all():
        raise UserError("std", std, "three numbers above 0, for images in [0, 1]")
    return found[0], found[1]


def _files(path: Path) -> list[bytes]:
    """The content of an ONNX file, and of those that it names as holding its weights.

    A tensor that lies elsewhere says where with an entry `location`, a field of the format in which
    a text has the length before it.
    """
    content = path.read_bytes()
    names = set()
    for entry in re.finditer(rb"\n\x08location\x12", content):
        length = shift = 0
        for at in range(entry.end(), min(entry.end() + 3, len(content))):
            length |= (content[at] & 127) << shift
            shift += 7
            if content[at] < 128:
                names.add(content[at + 1 : at + 1 + length])
                break
    found = [path.parent / name.decode("utf-8", "replace") for name in sorted(names)]
    return [content, *(other.read_bytes() for other in found if other.is_file())]
