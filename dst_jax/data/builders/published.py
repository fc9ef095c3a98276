"""What the builders of published files share: where the files come from, and what an image must be.

Each subclass checks sizes and counts against its class attributes, which are those of the published
files, and raises UserError for anything else. Called by the builders beside this file.
"""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image

from dst_jax.data.builders.archive import Archive
from dst_jax.data.datasets import CorruptedSet

Examples = Iterator[tuple[Any, dict[str, Any]]]


@dataclasses.dataclass(eq=False)
class CorruptionConfig(tfds.core.BuilderConfig):
    """The config of one corruption, in our name, at one severity."""

    corruption: str = ""
    severity: int = 0


def conditions(corrupted: CorruptedSet) -> list[CorruptionConfig]:
    """The configs of a corrupted set: every corruption at severities 1 to 5."""
    return [
        CorruptionConfig(
            name=corrupted.config(corruption, severity),
            description=f"{corruption} at severity {severity}",
            corruption=corruption,
            severity=severity,
        )
        for corruption in corrupted.corruptions
        for severity in range(1, 6)
    ]


class Published(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A dataset made from published files.

    Attributes:
      DOWNLOAD: which files, and where they are.
      FILE_FORMAT: "array_record", read whole and without TensorFlow, or "tfrecord" for streams.
      SIZE: side of the images in pixels.
    """

    VERSION = tfds.core.Version("1.0.0")
    DOWNLOAD = ""
    FILE_FORMAT = "array_record"
    SIZE = 0

    def __init_subclass__(cls, **options: Any):
        # Unregistered: TFDS has or could come to have datasets of these names.
        super().__init_subclass__(skip_registration=True, **options)

    def __init__(self, *, source: Archive, **options: Any):
        self.source = source
        super().__init__(**options)

    @classmethod
    def check(cls, source: Archive, configs: Sequence[Any]) -> None:
        """Looks for the files of these configs, without reading the images.

        Raises:
          UserError: something is missing.
        """
        raise NotImplementedError

    def info_of(self, label: Any, **features: Any) -> tfds.core.DatasetInfo:
        """The dataset's description, with features `image`, `label` and those given."""
        shape = (self.SIZE, self.SIZE, 3)
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{type(self).__doc__}\n\nPrepared from {self.DOWNLOAD}.",
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(shape=shape), "label": label, **features}
            ),
            supervised_keys=("image", "label"),
        )


def png(image: Image.Image) -> bytes:
    """An image as the bytes of an RGB PNG."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()


def open_image(source: Archive, path: str, content: bytes) -> Image.Image:
    """Reads the header of an image file, and enough to tell that it is whole.

    Raises:
      UserError: it is no image, or ends too early.
    """
    try:
        image = Image.open(io.BytesIO(content))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _no_image(source, path, content) from error
    # Decoding all of ImageNet-C would take two hours; the end marker tells of a cut file as well.
    if image.format == "JPEG" and b"\xff\xd9" not in content[2:]:
        raise _no_image(source, path, content)
    return image


def encoded(source: Archive, path: str, content: bytes, size: int, hint: str = "") -> bytes:
    """A published image file as it is stored: unchanged, but grey images become RGB.

    Args:
      source: where it comes from, for the message.
      path: its path there.
      content: its bytes.
      size: the side that it must have, in pixels.
      hint: what to say if it has not.

    Raises:
      UserError: it is no image, or of another size.
    """
    image = open_image(source, path, content)
    if image.size != (size, size):
        raise wrong_size(source, path, image, f"{size}x{size}", hint)
    return content if image.mode == "RGB" else png(image)


def wrong_size(source: Archive, path: str, image: Image.Image, expected: str, hint: str) -> Any:
    """The UserError for an image of another size."""
    width, height = image.size
    return source.error(f"{path} with {width}x{height} pixels", f"{expected} pixels", hint)


def _no_image(source: Archive, path: str, content: bytes) -> Any:
    found = f"{path} ({len(content)} bytes) that is no image, or a part of one"
    return source.error(found, "a whole JPEG or PNG", "Download or unpack it again")
