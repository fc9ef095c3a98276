"""The flags that say what `--dataset` is and which classes a model knows. Called by `cli`."""

from typing import Any

from absl import flags

_SIDE = flags.DEFINE_integer(
    "side",
    0,
    "With --dataset=folder:PATH: height and width of the images in pixels; the shorter side is "
    "resized to it, and the central square taken. Default: ImageNet's, 256 and then 224.",
    0,
)
_RESIZE = flags.DEFINE_integer(
    "resize", 0, "With folder:PATH: the shorter side before the crop, if it is not --side.", 0
)
_IMAGE_LIST = flags.DEFINE_string(
    "image_list", "", "With folder:PATH: a text file with a line PATH LABEL per image."
)
_CLASS_NAMES = flags.DEFINE_list(
    "class_names", [], "With folder:PATH: the classes in the order of their labels."
)
_CLASSES = flags.DEFINE_string(
    "classes",
    "",
    "With --predict: which logits stand for the labels, as 6,11,13: the logit of label 0, 1, 2; "
    "or a file with one a line, or with a label and its logits.",
)
_SCALE = flags.DEFINE_enum(
    "scale", "", ["", "unit"], "With --dataset=arrays:FILES: unit says that they are in [0, 1]."
)
_NAME = flags.DEFINE_string(
    "dataset_name",
    "",
    "What the images of folder:PATH or arrays:FILES are, such as imagenet2012: whose benchmarks, "
    "mCE and published numbers are theirs.",
)


def reading() -> dict[str, Any]:
    """How the images of a folder are read, as `robustness.folder` takes it."""
    return {
        "side": _SIDE.value,
        "resize": _RESIZE.value,
        "image_list": _IMAGE_LIST.value,
        "class_names": tuple(_CLASS_NAMES.value),
    }


def meaning() -> dict[str, Any]:
    """What images and logits are, as `robustness.evaluate` takes it."""
    text = _CLASSES.value
    parts = text.replace(",", " ").split()
    numbers = bool(parts) and all(part.isdecimal() for part in parts)
    return {
        "classes": [int(part) for part in parts] if numbers else text or None,
        "scale": _SCALE.value,
        "name": _NAME.value,
    }


def used() -> str:
    """The first of them that is given; "" where none is."""
    given = {**reading(), **meaning()}
    flag = next((name for name, value in given.items() if value), "")
    return "dataset_name" if flag == "name" else flag
