"""Corrupted images on disk: a folder of images or an array file in, folders or array files out.

    from dst_jax import rendering

    rendering.write_corrupted("photos", "photos-C", ["fog", "snow"], resize=256, crop=224)

`inputs` reads, `outputs` writes, `manifest` says what a directory holds, `render` goes through the
conditions. What is rendered is what `robustness.evaluate` renders for the same image number, so the
files score as if they had never been written. `dst-jax corrupt` is this as a command.
"""

from dst_jax.rendering.manifest import MANIFEST
from dst_jax.rendering.render import Written, cores, write_corrupted

__all__ = ["MANIFEST", "Written", "cores", "write_corrupted"]
