"""Finds datasets that TFDS has prepared on disk, and imports TensorFlow where it is needed.

Nothing here downloads: what is missing is told with the command that prepares it. Called by the
modules of this package that read data.
"""

import contextlib
import os
import pathlib
from typing import Any

from etils import epath

from dst_jax.data import array_files, datasets
from dst_jax.data.datasets import NOT_IN_TFDS, Dataset
from dst_jax.errors import UserError

_IMAGENET_HELP = (
    "ImageNet must be downloaded by hand first: put ILSVRC2012_img_train.tar and "
    "ILSVRC2012_img_val.tar from https://image-net.org/challenges/LSVRC/2012/2012-downloads.php "
    "into {manual} (https://www.tensorflow.org/datasets/catalog/imagenet2012). "
)
_UCF101_HELP = "TFDS downloads 6.5 GB and needs the program ffmpeg to decode the videos. "


def default_cache_dir() -> pathlib.Path:
    """Where decoded arrays and the digits are kept if no `cache_dir` is given."""
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root) / "dst_jax"


def find(dataset: Dataset, data_dir: os.PathLike | str | None, cache_dir: pathlib.Path) -> Any:
    """The `tfds.core.DatasetBuilder` of a prepared dataset; `digits` is prepared on first use.

    Args:
      dataset: which.
      data_dir: TFDS directory; None: TFDS's default.
      cache_dir: the digits are prepared in `cache_dir / "tfds"` unless `data_dir` has them.

    Raises:
      UserError: the dataset is not there; the text has the command that prepares it.
    """
    if "digits" in (dataset.name, dataset.tfds_name):
        from dst_jax.data import digits

        if data_dir is None or not (tfds_dir(data_dir) / "digits").exists():
            data_dir = cache_dir / "tfds"
            digits.prepare(os.fspath(data_dir))
    return find_clean(dataset, data_dir)


def find_clean(dataset: Dataset, data_dir: os.PathLike | str | None) -> Any:
    """The builder of a dataset that is prepared already; raises as `find_config` does."""
    if dataset.read is not None:
        raise UserError(
            "config.data.input", "stream", f"resident with {dataset.name}, read by a function"
        )
    name, _, config = (dataset.tfds_name or dataset.name).partition("/")
    builder = find_config(name, config or None, data_dir)
    if dataset.name in datasets.REGISTERED_IN:
        features = builder.info.features
        held = features["label"].num_classes if "label" in features else None
        if held != dataset.num_classes:
            found = "no label" if held is None else f"labels of {held} classes"
            expected = f"{dataset.num_classes} classes, as dataset {dataset.name} is registered"
            raise UserError(os.fspath(builder.data_path), found, expected)
    return builder


def find_config(name: str, config: str | None, data_dir: os.PathLike | str | None) -> Any:
    """The builder of the newest prepared version of `name`, or of its config `name/config`.

    Raises:
      UserError: it is not there; the text has the command that prepares it.
    """
    import tensorflow_datasets as tfds

    full_name = f"{name}/{config}" if config else name
    root = tfds_dir(data_dir)
    try:
        return tfds.core.read_only_builder.builder_from_files(full_name, data_dir=os.fspath(root))
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            "data_dir",
            f"no {root / full_name}/<version>/dataset_info.json",
            f"the TFDS dataset {full_name}, prepared",
            _how_to_prepare(name, config, root, given=bool(data_dir)),
        ) from error


def _how_to_prepare(name: str, config: str | None, root: Any, *, given: bool) -> str:
    """The command that prepares a dataset; `given`: the directory is not TFDS's default."""
    if name in NOT_IN_TFDS:
        only = f" --only={config}" if config else ""
        where = f" --data_dir={root}" if given else ""
        return (
            f"Prepare it with: python -m dst_jax.data.prepare {name}{only} --source=PATH{where} "
            "(--help says what to download)"
        )
    full_name = f"{name}/{config}" if config else name
    where = f", data_dir={os.fspath(root)!r}" if given else ""
    prepare = f"tfds.load({full_name!r}{where})"
    videos = _UCF101_HELP if name == "ucf101" else ""
    manual = _IMAGENET_HELP.format(manual=root / "downloads" / "manual")
    return (
        manual if name.startswith("imagenet2012") else videos
    ) + f'Prepare it with: python -c "import tensorflow_datasets as tfds; {prepare}"'


def tfds_dir(data_dir: os.PathLike | str | None) -> Any:
    """The directory (an `epath.Path`) that TFDS looks into: the given one or its default."""
    return epath.Path(os.fspath(data_dir or array_files.default_data_dir())).expanduser()


def check_split(builder: Any, split: str) -> int:
    """The number of examples in a split, or in a part of one, `train[:900]`.

    Raises:
      UserError: the prepared dataset has no such split, or an empty one.
    """
    splits = builder.info.splits
    if split.partition("[")[0] not in splits:
        known = ", ".join(sorted(splits)) or "no split at all"
        raise UserError(
            "data split", f"{split!r}, but {builder.data_path} has {known}", "a prepared split"
        )
    if not splits[split].num_examples:
        raise UserError(f"{builder.data_path}: split {split}", "no image in it", "at least one")
    return splits[split].num_examples


def tensorflow(purpose: str) -> Any:
    """Imports TensorFlow (4-5 s) and keeps it off the accelerator, which belongs to JAX.

    Args:
      purpose: what needs it, for the message.

    Raises:
      UserError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # it announces itself on standard error
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(
            purpose, "no TensorFlow", "TensorFlow", "Install it with: pip install 'dst-jax[tf]'"
        ) from error
    for kind in ("GPU", "TPU"):
        # Too late (RuntimeError) only where the caller's own code has already used the device.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], kind)
    return tf


def open_records(
    builder: Any, split: str, file_seed: int | None = None, *, names: bool = False
) -> tuple[Any, Any]:
    """Opens a split as a `tf.data.Dataset` of undecoded records.

    Args:
      builder: of a prepared dataset.
      split: a TFDS split.
      file_seed: shuffles the files and reads 16 of them in turn; None: all records in file order.
      names: records have "file_name" too, a string; only where the dataset has it.

    Returns:
      (TensorFlow, dataset of {"image": encoded string, "label": int64}), in a repeatable order. The
      image of a video is a vector of strings, its frames.

    Raises:
      UserError: the dataset is not prepared as tfrecord, or TensorFlow is missing.
    """
    if builder.info.file_format.value != "tfrecord":
        raise UserError(
            "config.data.input",
            f"stream, but {builder.data_path} holds {builder.info.file_format.value} files",
            "a dataset prepared as tfrecord, TFDS's default",
            "Use --config.data.input=resident, or prepare it as tfrecord",
        )
    tf = tensorflow(f"reading {builder.data_path}")
    import tensorflow_datasets as tfds

    options = tf.data.Options()
    options.deterministic = True
    ordered = file_seed is None
    key = "video" if "video" in builder.info.features else "image"
    dataset = builder.as_dataset(
        split=split,
        shuffle_files=not ordered,
        decoders=tfds.decode.PartialDecoding(
            {key: True, "label": True, **({"file_name": True} if names else {})},
            decoders={key: tfds.decode.SkipDecoding()},
        ),
        read_config=tfds.ReadConfig(
            options=options,
            shuffle_seed=file_seed,
            interleave_cycle_length=1 if ordered else 16,
            try_autocache=False,
        ),
    )
    if key == "video":
        dataset = dataset.map(lambda record: {"image": record[key], "label": record["label"]})
    return tf, dataset


def unreadable(builder: Any, error: Exception) -> UserError:
    """What to tell the user when TensorFlow fails to read a prepared dataset."""
    return UserError(
        os.fspath(builder.data_path),
        f"records that cannot be read ({(str(error) or 'too few of them').splitlines()[0][:200]})",
        "intact files",
        "Delete the directory and prepare the dataset again",
    )
