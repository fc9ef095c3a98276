"""Files `.safetensors`: named arrays and a table of texts, without any code in them.

The format is eight bytes with the length of a JSON header, the header, and the arrays' bytes
(https://github.com/huggingface/safetensors). It is read here rather than with the package of that
name, so that weights go in and out without one more dependency; a test holds both to each other
where the package is installed. Called by `torch_weights`, `weight_files` and `export`.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from dst_jax.errors import UserError

SUFFIX = ".safetensors"
_TYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_METADATA = "__metadata__"
_LARGEST_HEADER = 100_000_000  # bytes, as the reference has it
# Checkpoints that are pickles, which may hold any program.
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
_CONVERT = (
    'Convert it where PyTorch and safetensors are installed: python -c "import torch; from '
    "safetensors.torch import save_file; save_file(torch.load('{path}', weights_only=True), "
    "'{name}.safetensors')\""
)


def check_name(path: str | Path, field: str = "") -> None:
    """Raises UserError unless a file is named `*.safetensors`; of a pickle, how to convert it.

    Args:
      path: the file.
      field: the option that names it, for the text of the error.
    """
    path = Path(path)
    if path.suffix == SUFFIX:
        return
    is_pickle = path.suffix.lower() in _PICKLES
    found = f"a file {path.suffix}, which is a pickle" if is_pickle else f"a file {path.name}"
    where = f"{field}={path}" if field else str(path)
    hint = _CONVERT.format(path=path.name, name=path.stem) if is_pickle else ""
    raise UserError(where, found, "a file .safetensors, which holds no program", hint)


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a file.

    Args:
      path: a file `*.safetensors`.

    Returns:
      Its arrays by name, read-only, and its metadata.

    Raises:
      UserError: it is not there, or not such a file.
    """
    path = Path(path)
    check_name(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(str(path), error.strerror or str(error), "a file .safetensors") from None
    try:
        return _decoded(content)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        found = f"no whole file of the format ({error})"
        raise UserError(str(path), found, "a file .safetensors") from None


def _decoded(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    (length,) = struct.unpack_from("<Q", content)
    if not 2 <= length <= min(_LARGEST_HEADER, len(content) - 8):
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(content[8 : 8 + length])
    metadata = {str(name): str(text) for name, text in header.pop(_METADATA, {}).items()}
    start, arrays = 8 + length, {}
    room = len(content) - start
    for name, entry in header.items():
        dtype, shape = _TYPES[entry["dtype"]], tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        if not all(isinstance(size, int) and size >= 0 for size in (*shape, begin, end)):
            raise ValueError(f"{name}: negative sizes")
        if not begin <= end <= room or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name}: {end - begin} bytes of {room} for {list(shape)}")
        flat = np.frombuffer(content, dtype, math.prod(shape), start + begin)
        arrays[name] = flat.reshape(shape)
    return arrays, metadata


def encoded(arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """The content of a file.

    Args:
      arrays: by name, of a dtype that the format has.
      metadata: what else the file says, texts by name.
    """
    # Widest types first, then by name, as the reference writes them: each array is aligned.
    listed = sorted(
        ((name, np.ascontiguousarray(array)) for name, array in arrays.items()),
        key=lambda entry: (-entry[1].dtype.itemsize, entry[0]),
    )
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    parts, begin = [], 0
    for name, array in listed:
        end = begin + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(np.shape(arrays[name])),  # `ascontiguousarray` makes [1] of []
            "data_offsets": [begin, end],
        }
        parts.append(array.tobytes())
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])
