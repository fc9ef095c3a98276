"""Tiny-ImageNet, prepared from a small copy of the published layout and from the real images."""

import io
import lzma
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dst_jax import data
from dst_jax.data.builders import BUILDERS
from dst_jax.data.builders.tiny_imagenet import Counts
from dst_jax.data.prepare import prepare

WNIDS = ("n02124075", "n01443537", "n03444034")  # as published: in no order
GREY = 2  # one training image of each class is grey, as 1.8 % of the published are


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(BUILDERS["tiny_imagenet"], "COUNTS", Counts(3, 4, 6))


def image_file(random, grey: bool) -> bytes:
    low = random.integers(0, 256, (8, 8) if grey else (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(low).resize((64, 64), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def write(top: Path) -> Path:
    """tiny-imagenet-200 with 3 classes, 4 training images each and 6 validation images."""
    random = np.random.default_rng(0)
    top.mkdir(parents=True)
    (top / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    for wnid in WNIDS:
        folder = top / "train" / wnid / "images"
        folder.mkdir(parents=True)
        (folder.parent / f"{wnid}_boxes.txt").touch()
        for i in range(4):
            (folder / f"{wnid}_{i}.JPEG").write_bytes(image_file(random, i == GREY))
    (top / "val" / "images").mkdir(parents=True)
    lines = []
    for i in range(6):
        (top / "val" / "images" / f"val_{i}.JPEG").write_bytes(image_file(random, False))
        lines.append(f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t32\t44\t62\n")
    (top / "val" / "val_annotations.txt").write_text("".join(lines))
    (top / "test" / "images").mkdir(parents=True)
    (top / "test" / "images" / "test_0.JPEG").write_bytes(image_file(random, False))
    return top


def decoded(path: Path, size: int) -> bytes:
    """The published image; smaller by the mean of pairs in a row, then of pairs of rows."""
    image = np.asarray(Image.open(path).convert("RGB")).astype(np.uint16)
    if size == 32:
        image = (image[:, ::2] + image[:, 1::2] + 1) // 2
        image = (image[::2] + image[1::2] + 1) // 2
    return image.astype(np.uint8).tobytes()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["folder", "zip", "tar.xz"])
def test_images_and_labels_are_the_published(kind, tmp_path):
    top = source = write(tmp_path / "published" / "tiny-imagenet-200")
    if kind != "folder":
        source = tmp_path / f"tiny.{kind}"
        form = "zip" if kind == "zip" else "xztar"
        made = shutil.make_archive(str(tmp_path / "made"), form, top.parent, top.name)
        shutil.move(made, source)
    done = prepare("tiny_imagenet", source, tmp_path / "tfds")
    assert done == ["tiny_imagenet/64x64", "tiny_imagenet/32x32"]

    train = [(top / f"train/{w}/images/{w}_{i}.JPEG", w) for w in WNIDS for i in range(4)]
    validation = [(top / f"val/images/val_{i}.JPEG", WNIDS[i % 3]) for i in range(6)]
    for name, size in (("tiny_imagenet", 64), ("tiny_imagenet32", 32)):
        for split, published in (("train", train), ("validation", validation)):
            images, labels = data.load_arrays(
                data.get(name), split, tmp_path / "tfds", tmp_path / "cache"
            )
            found = sorted(zip(map(bytes, images), map(int, labels), strict=True))
            assert found == sorted(
                (decoded(path, size), sorted(WNIDS).index(wnid)) for path, wnid in published
            )


@pytest.mark.usefixtures("small")
def test_a_32px_copy_serves_as_32x32_only(tmp_path, refused):
    top = write(tmp_path / "tiny-imagenet-200")
    for path in top.rglob("*.JPEG"):
        Image.open(path).resize((32, 32)).save(path, "JPEG")
    refused("tiny_imagenet", top, "32x32 pixels; expected 64x64 pixels. .*--only=32x32")
    prepare("tiny_imagenet", top, tmp_path, only=["32x32"])
    images, _ = data.load_arrays(data.get("tiny_imagenet32"), "validation", tmp_path, tmp_path)
    want = {decoded(path, 64) for path in (top / "val/images").iterdir()}
    assert set(map(bytes, images)) == want


def _edit(path: str, change):
    def damage(top: Path) -> None:
        (top / path).write_text(change((top / path).read_text()))

    return damage


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda top: (top / "wnids.txt").unlink(), r"no wnids\.txt; expected the published tiny-"),
        (_edit("wnids.txt", lambda text: text[:20]), r"2 wnids in wnids\.txt; expected 3"),
        (lambda top: shutil.rmtree(top / "train" / WNIDS[2]), "0 images in train/n03444034/images"),
        (lambda top: (top / "train/n02124075/images/n02124075_1.JPEG").unlink(), "3 images in tra"),
        (lambda top: (top / "val/val_annotations.txt").unlink(), r"no val/val_annotations\.txt"),
        (_edit("val/val_annotations.txt", lambda t: t[: t.index("val_5")]), "6 images .* 5 labels"),
        (_edit("val/val_annotations.txt", lambda t: t.replace("n0", "x0")), r"line 'val_0\.JPEG"),
        (_edit("val/val_annotations.txt", lambda t: "\n" + t), "line '' in val_annotations"),
        (_edit("val/val_annotations.txt", lambda t: t.replace("val_5", "val_9")), "6 images"),
        (lambda top: (top / "val/images/val_3.JPEG").unlink(), "5 images in val/images and 6 lab"),
        (lambda top: (top / "val/images/val_3.JPEG").write_bytes(b"GIF89a"), "no image, or a part"),
    ],
)
def test_wrong_copies_are_refused(damage, text, tmp_path, refused):
    top = write(tmp_path / "tiny-imagenet-200")
    damage(top)
    refused("tiny_imagenet", top, text)


@pytest.mark.usefixtures("small")
def test_broken_archives_are_refused(tmp_path, refused):
    top = write(tmp_path / "tiny-imagenet-200")
    with tarfile.open(tmp_path / "tiny.tar", "w") as tar:
        tar.add(top, top.name)
    whole = lzma.compress((tmp_path / "tiny.tar").read_bytes())
    (tmp_path / "tiny.tar.xz").write_bytes(whole[: len(whole) // 2])
    refused("tiny_imagenet", tmp_path / "tiny.tar.xz", "cannot be read .*download it again")
    with zipfile.ZipFile(tmp_path / "tiny.zip", "w") as file:
        file.write(top / "wnids.txt", "tiny-imagenet-200/wnids.txt")
    refused("tiny_imagenet", tmp_path / "tiny.zip", r"no tiny-imagenet-200/val/val_annotations")
    refused("cifar100_corrupted", tmp_path / "tiny.zip", r"no labels\.npy")


PUBLISHED = "tiny-imagenet/tiny-imagenet-200-32px.tar.xz"


def some_classes(archive: Path, top: Path) -> dict[str, dict[str, list[Path]]]:
    """Writes real images as they are published; returns the files of each split and class."""
    with tarfile.open(archive) as tar:
        for member in tar:
            _, *path = Path(member.name).parts
            if path[:1] == ["val"] or (path[:1] == ["train"] and {*path} & {*WNIDS}):
                tar.extract(member, top.parent, filter="data")
    (top / "wnids.txt").write_text("\n".join(WNIDS))
    annotations = top / "val" / "val_annotations.txt"
    lines = annotations.read_text().splitlines(keepends=True)
    annotations.write_text("".join(line for line in lines if line.split()[1] in WNIDS))
    files = {wnid: list((top / "train" / wnid / "images").iterdir()) for wnid in WNIDS}
    validation = {wnid: [] for wnid in WNIDS}
    for name, wnid, *_ in map(str.split, lines):
        path = top / "val" / "images" / name
        if wnid in WNIDS:
            validation[wnid].append(path)
        else:
            path.unlink()
    return {"train": files, "validation": validation}


@pytest.mark.slow
def test_real_images_of_three_classes(shared_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(BUILDERS["tiny_imagenet"], "COUNTS", Counts(3, 500, 150))
    top = tmp_path / "tiny-imagenet-200"
    files = some_classes(shared_dir / PUBLISHED, top)
    prepare("tiny_imagenet", top, tmp_path, only=["32x32"])
    for split, per_class in (("train", 500), ("validation", 50)):
        images, labels = data.load_arrays(data.get("tiny_imagenet32"), split, tmp_path, tmp_path)
        assert images.shape == (3 * per_class, 32, 32, 3)
        for label, wnid in enumerate(sorted(WNIDS)):
            ours = sorted(bytes(image) for image in images[np.asarray(labels) == label])
            assert ours == sorted(decoded(path, 64) for path in files[split][wnid])


@pytest.mark.full  # a minute
@pytest.mark.slow
def test_the_real_images_are_prepared_whole(shared_dir, tmp_path):
    prepare("tiny_imagenet", shared_dir / PUBLISHED, tmp_path, only=["32x32"])
    dataset = data.get("tiny_imagenet32")
    for split, per_class in (("train", 500), ("validation", 50)):
        images, labels = data.load_arrays(dataset, split, tmp_path, tmp_path)
        assert images.shape == (200 * per_class, 32, 32, 3)
        np.testing.assert_array_equal(np.bincount(labels), np.full(200, per_class))
        if split == "train":
            pixels = images[::10].reshape(-1, 3) / 255
            np.testing.assert_allclose(pixels.mean(0), dataset.mean, atol=5e-3)
            np.testing.assert_allclose(pixels.std(0), dataset.std, atol=5e-3)
