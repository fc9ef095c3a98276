"""The network of a run as one file for another program, or for a training of another day.

    safetensors   our leaves, dense: inactive weights are zeros
    compact       the active weights, a bit per weight of masks, shapes; smaller below density 0.97
    torch         the state dict of the PyTorch network, in its names and layouts
    stablehlo     the whole function, uint8 images to logits, for any number of images

`models.load_weights` reads the first two, `models.load_torch` the third, `jax.export` the fourth.
Nothing runs faster for being sparse: masks are zeros to whoever multiplies. Called by
`saved_run`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import dst_jax
from dst_jax import data
from dst_jax.errors import UserError
from dst_jax.models import safetensors_files, torch_weights, weight_files
from dst_jax.runtime import run_dir

# Format -> how its file is called.
FORMATS = {
    "safetensors": safetensors_files.SUFFIX,
    "compact": safetensors_files.SUFFIX,
    "torch": safetensors_files.SUFFIX,
    "stablehlo": ".stablehlo",
}
_PLATFORMS = ("cpu", "cuda", "tpu")


@dataclasses.dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
      path: the file.
      format: one of `FORMATS`.
      size: its bytes.
      dense_size: bytes of all weights and statistics, zeros included.
      density: share of the maskable weights that is active; 1 without masks.
    """

    path: Path
    format: str
    size: int
    dense_size: int
    density: float

    def __repr__(self) -> str:
        """What was written, how large it is, and beside what."""
        text = (
            f"{self.path}: {self.format}, {_size(self.size)}; {self.size / self.dense_size:.1%} of "
            f"the {_size(self.dense_size)} of the dense weights, density {self.density:.4f}"
        )
        if self.format == "compact":
            text += f" (compact is the smaller below {weight_files.BREAK_EVEN:.2f})"
        return text


def write(run: Any, path: str | Path, format: str = "safetensors") -> Exported:
    """Writes the network of a run; see `saved_run.Run.export`."""
    path = Path(path)
    if format not in FORMATS:
        raise UserError("format", format, f"one of {', '.join(FORMATS)}")
    if path.suffix != FORMATS[format]:
        raise UserError(str(path), f"a name for format {format}", f"a file *{FORMATS[format]}")
    content = _stablehlo(run) if format == "stablehlo" else _arrays(run, format)
    try:
        run_dir.write_bytes(path, content)
    except OSError as error:
        found = error.strerror or str(error)
        raise UserError(str(path), found, "a file that can be written") from None
    masks = jax.tree.leaves(run.masks)
    active, maskable = (sum(map(count, masks)) for count in (_active, np.size))
    dense = sum(leaf.nbytes for leaf in jax.tree.leaves((run.params, run.batch_stats)))
    return Exported(path, format, len(content), dense, active / maskable if maskable else 1.0)


def _active(mask: Any) -> int:
    return int(np.asarray(mask).sum(dtype=np.int64))


def _arrays(run: Any, format: str) -> bytes:
    """The content of a file `.safetensors`."""
    if format == "compact":
        arrays, metadata = weight_files.compact(run.params, run.batch_stats, run.masks)
    elif format == "torch":
        name = run.config["model"]["name"]
        torch_weights.check_name(name, "config.model.name")
        variables = {"params": run.params, "batch_stats": run.batch_stats}
        arrays, metadata = torch_weights.to_torch(name, run.model, variables)
        metadata["format"] = "pt"
    else:
        arrays, metadata = weight_files.dense(run.params, run.batch_stats)
    return safetensors_files.encoded(arrays, {**_about(run), **metadata})


def _about(run: Any) -> dict[str, str]:
    """What a user of the weights must know besides them, as texts."""
    config, dataset = run.config, data.get(run.config["data"]["name"])
    options = {k: v for k, v in config["model"].items() if not k.startswith("init_")}
    return {
        "written_by": f"dst_jax {dst_jax.__version__}",
        "model": json.dumps(options, sort_keys=True),
        "dataset": dataset.name,
        "num_classes": str(dataset.num_classes),
        "mean": json.dumps(list(dataset.mean)),  # images uint8 / 255 are normalised by these
        "std": json.dumps(list(dataset.std)),
        "algorithm": str(config["sparsity"]["algorithm"]),
        "sparsity": str(config["sparsity"]["sparsity"]),
        "step": str(run.step),
    }


def _stablehlo(run: Any) -> bytes:
    """The predict function of a run as `jax.export` serialises it, with the weights inside."""
    from jax import export

    (batch,) = export.symbolic_shape("batch")
    shape = (batch, *data.get(run.config["data"]["name"]).image_shape)
    predict = run.predict
    function = jax.jit(lambda images: predict(images))
    exported = export.export(function, platforms=_PLATFORMS)(jax.ShapeDtypeStruct(shape, np.uint8))
    return bytes(exported.serialize())


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count > 1e6 else f"{count / 1e3:.1f} kB"
