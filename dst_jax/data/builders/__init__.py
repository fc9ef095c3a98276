"""TFDS builders of what TFDS lacks, made from the files that the user has downloaded.

They write what TFDS would, so that the rest of this package finds them in a TFDS directory like any
other dataset. Importing this package imports TFDS, but no TensorFlow; `dst_jax.data.prepare` does.
"""

from dst_jax.data.builders.published import Published
from dst_jax.data.builders.severity_arrays import Cifar10Corrupted, Cifar100Corrupted
from dst_jax.data.builders.severity_folders import (
    Imagenet3dcc,
    ImagenetC,
    ImagenetCBar,
    TinyImagenetCorrupted,
)
from dst_jax.data.builders.tiny_imagenet import TinyImagenet

BUILDERS: dict[str, type[Published]] = {
    builder.name: builder
    for builder in (
        Cifar10Corrupted,
        Cifar100Corrupted,
        TinyImagenet,
        TinyImagenetCorrupted,
        ImagenetC,
        ImagenetCBar,
        Imagenet3dcc,
    )
}

__all__ = ["BUILDERS", "Published"]
