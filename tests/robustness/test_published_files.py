"""Published corrupted sets where they were unpacked, on small archives with numbers by hand."""

import functools

import cifar10_c
import jax
import numpy as np
import pytest
from PIL import Image

from dst_jax import data, robustness
from dst_jax.data import array_files, benchmarks, corrupted_files
from dst_jax.errors import UserError
from dst_jax.robustness import storage
from dst_jax.robustness.records import Condition
from dst_jax.runtime.devices import Devices

ONE = Devices(devices=jax.devices()[:1])
N = 20
CIFAR10 = data.get("cifar10")
# RobustBench's corruptions of CIFAR-10-C: the 15, in any order.
FIFTEEN = benchmarks.C


def predict(images):
    """Ten classes by the first pixel."""
    return jax.nn.one_hot(images[:, 0, 0, 0], 10)


def scored(dataset, suite, **options):
    options = {"batch_size": 8, "devices": ONE, "quiet": True, **options}
    return robustness.evaluate(predict, dataset, suite, **options)


def images_of(answers):
    """An image for each answer that `predict` shall give."""
    images = np.full((len(answers), 32, 32, 3), 99, np.uint8)
    images[:, 0, 0, 0] = answers
    return images


LABELS = np.arange(N) * 7 % 10


@pytest.fixture(scope="module")
def cifar10_c_files(tmp_path_factory):
    """CIFAR-10-C in its layout: the first severity + k images of the k-th corruption are wrong."""
    folder = tmp_path_factory.mktemp("download") / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(LABELS, 5).astype(np.uint8))
    for k, name in enumerate(FIFTEEN):
        blocks = []
        for severity in range(1, 6):
            answers = LABELS.copy()
            answers[: severity + k] = (answers[: severity + k] + 1) % 10
            blocks.append(images_of(answers))
        np.save(folder / f"{name}.npy", np.concatenate(blocks))
    return folder.parent


CLEAN_SET = (images_of(LABELS), LABELS)


def test_robustbenchs_recipe_of_cifar10_c(cifar10_c_files):
    """All images, five severities, the mean over 15: (20 - 3 - 7) / 20."""
    result = scored(CLEAN_SET, "c", source=cifar10_c_files, name="cifar10")
    assert result.clean_accuracy == 1.0
    assert len(result.conditions) == 75
    for k, name in enumerate(FIFTEEN):
        for severity in range(1, 6):
            assert result.accuracy(name, severity) == (N - severity - k) / N
    assert result.robust_accuracy == pytest.approx(0.5)
    assert result.setting[:4] == ("c", result.setting.source, "", 0)
    assert result.setting.source.startswith("files/")


def test_its_first_images_are_those_of_the_published_order(cifar10_c_files):
    """`n_examples=10`: right are 10 - s - k of ten, 145 of 750 in all (45 + 36 + 28 + 21 + 15)."""
    for chosen in ({"image_ids": list(range(10))}, {"max_images": 10}):
        result = scored(CLEAN_SET, "c", source=str(cifar10_c_files), **chosen)
        assert result.n == 10
        assert result.robust_accuracy == pytest.approx(145 / 750)


def test_clean_images_in_any_order_are_matched_by_their_numbers(cifar10_c_files):
    """As a DataLoader that shuffles hands them over, with the numbers as ids."""
    order = np.random.default_rng(0).permutation(N)
    images, labels = CLEAN_SET
    batches = [
        {"image": images[part], "label": labels[part], "id": part}
        for part in np.array_split(order, 3)
    ]
    options = {"source": cifar10_c_files, "severities": (2,)}
    expected = scored(CLEAN_SET, ["fog"], **options)
    found = scored(batches, ["fog"], **options)
    fog = Condition("fog", 2)
    wrong = 2 + FIFTEEN.index("fog")
    assert found.hits[fog].unpack(N).tolist() == [i >= wrong for i in range(N)]
    np.testing.assert_array_equal(found.hits[fog].bits, expected.hits[fog].bits)
    mixed = (images[order], labels[order])  # without the numbers it is another test set
    with pytest.raises(UserError, match=r"fog.npy: found images of which \d+ of 20 have the label"):
        scored(mixed, ["fog"], **options)


def test_other_files_are_another_score_and_the_same_ones_resume(cifar10_c_files, tmp_path):
    options = {"severities": (1, 2), "path": tmp_path / "scores"}
    first = scored(CLEAN_SET, ["fog", "snow"], source=cifar10_c_files, **options)
    before = (tmp_path / "scores" / storage.NPZ).read_bytes()
    again = scored(CLEAN_SET, ["fog", "snow"], source=cifar10_c_files, **options)
    assert again.scores == first.scores
    assert (tmp_path / "scores" / storage.NPZ).read_bytes() == before
    other = tmp_path / "other"
    other.mkdir()
    for name in ("labels", "fog", "snow"):
        array = np.load(cifar10_c_files / "CIFAR-10-C" / f"{name}.npy")
        np.save(other / f"{name}.npy", array if name != "snow" else np.flip(array, 2))
    second = scored(CLEAN_SET, ["fog", "snow"], source=other, **options)
    assert second.setting.source != first.setting.source
    assert len(storage.load_all(tmp_path / "scores")) == 2


def test_what_the_files_lack_is_told(cifar10_c_files, tmp_path):
    with pytest.raises(
        UserError,
        match=r"source: found .* with 75 of 95 conditions \(not speckle_noise, gaussian_blur, "
        r"spatter, saturate\); .* It has brightness, contrast, .* suite or corruptions",
    ):
        scored(CLEAN_SET, "common", source=cifar10_c_files)
    for path, text in (
        (tmp_path / "nothing", "found no folder there; expected a folder with CORRUPTION/SEV"),
        (tmp_path, "found no corruption in it; expected CORRUPTION/SEVERITY/CLASS/IMAGE"),
    ):
        with pytest.raises(UserError, match=text):
            scored(CLEAN_SET, "c", source=path)
    np.save(tmp_path / "labels.npy", np.tile(LABELS, 5))
    np.save(tmp_path / "fog.npy", np.zeros((99, 32, 32, 3), np.uint8))
    with pytest.raises(UserError, match=r"fog.npy: found uint8 \[99, 32, 32, 3\]; expected uint8"):
        scored(CLEAN_SET, "fog", source=tmp_path)
    np.save(tmp_path / "fog.npy", np.zeros((100, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match=r"images of \[16, 16\]; expected \[32, 32\], as the clean"):
        scored(CLEAN_SET, "fog", source=tmp_path)
    np.save(tmp_path / "fog.npy", np.zeros((100, 32, 32, 3), np.uint8))
    more = (np.concatenate([CLEAN_SET[0]] * 2), np.tile(LABELS, 2))
    with pytest.raises(UserError, match="20 images per severity, none for the clean image 20"):
        scored(more, "fog", source=tmp_path)


def test_blocks_may_be_of_some_severities_where_a_manifest_says_so(tmp_path):
    np.save(tmp_path / "labels.npy", np.tile(LABELS, 2))
    half = np.where(np.arange(N) % 2, LABELS, (LABELS + 1) % 10)
    np.save(tmp_path / "fog.npy", np.concatenate([images_of(LABELS), images_of(half)]))
    (tmp_path / "manifest.json").write_text('{"corruptions": {"fog": {"severities": [2, 4]}}}')
    found = scored(CLEAN_SET, "fog", source=tmp_path, severities=(2, 4))
    assert [found.accuracy("fog", s) for s in (2, 4)] == [1.0, 0.5]
    with pytest.raises(UserError, match="with 0 of 1 conditions"):
        scored(CLEAN_SET, "fog", source=tmp_path, severities=(1,))


# --- ImageNet-C, as folders ---

WNIDS = ("n01440764", "n01443537", "n02123045")
PER_CLASS = 4


def names_of(label):
    """Four numbers of validation images per class, which is not in the order of the classes."""
    return [f"ILSVRC2012_val_{3 * i + (label + 1) % 3 + 1:08}" for i in range(PER_CLASS)]


def write(folder, answer, ending):
    for label, wnid in enumerate(WNIDS):
        for index, name in enumerate(names_of(label)):
            (folder / wnid).mkdir(parents=True, exist_ok=True)
            (image,) = images_of([answer(label, index)])
            Image.fromarray(image).save(folder / wnid / f"{name}.{ending}")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Clean images, and ImageNet-C and 3DCC beside them: at severity s the first s of a class
    are wrong, of fog all of the first class."""
    top = tmp_path_factory.mktemp("imagenet")
    write(top / "val", lambda label, index: label, "png")

    def answer(label, index, severity, path):
        wrong = label == 0 if path.endswith("fog") else index < severity
        return (label + 1) % 3 if wrong else label

    for severity in (1, 2):
        for path in ("ImageNet-C/weather/fog", "ImageNet-C/noise/gaussian_noise", "3dcc/fog_3d"):
            # No JPEG: it would change the pixel that is the answer.
            one = functools.partial(answer, severity=severity, path=path)
            write(top / path / str(severity), one, "bmp")
    return top


def clean_folder(imagenet):
    return robustness.folder(imagenet / "val", side=32)


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        ("ImageNet-C", "gaussian_noise", [9 / 12, 6 / 12]),
        ("ImageNet-C", "fog", [8 / 12, 8 / 12]),
        ("3dcc", "fog_3d", [9 / 12, 6 / 12]),
    ],
)
def test_folders_of_a_published_set(imagenet, source, name, expected):
    result = scored(
        clean_folder(imagenet),
        [name],
        source=imagenet / source,
        severities=(1, 2),
        name="imagenet2012",
    )
    assert result.clean_accuracy == 1.0
    assert [result.accuracy(name, s) for s in (1, 2)] == expected


def test_levels_of_c_bars_generator_are_severities_in_ascending_order(imagenet, tmp_path):
    """Its folders are called by the level, as 4.75; ten comes after nine."""
    for severity, level in enumerate(("4.75", "7.00", "8.50", "9.25", "10.00"), 1):
        wrong = functools.partial(lambda s, label, index: (label + (index < s - 1)) % 3, severity)
        write(tmp_path / "plasma_noise" / level, wrong, "png")
    result = scored(clean_folder(imagenet), ["plasma_noise"], source=tmp_path)
    assert [result.accuracy("plasma_noise", s) for s in range(1, 6)] == [1, 3 / 4, 1 / 2, 1 / 4, 0]


def test_an_archive_is_told_how_to_unpack(tmp_path):
    (tmp_path / "blur.tar").write_bytes(b"")
    for source in (tmp_path, tmp_path / "blur.tar"):
        with pytest.raises(UserError, match=rf"tar -xf {tmp_path}/blur.tar -C {tmp_path}"):
            corrupted_files.open_corrupted(source)


def test_a_list_of_ids_in_robustbenchs_form(imagenet, tmp_path):
    """Lines WNID/NAME.JPEG in any order: of the first class its images 0 and 1, of the last its
    third. At severity 1 one of these three is wrong, at severity 2 two are."""
    first, last = names_of(0), names_of(2)
    lines = [f"{WNIDS[2]}/{last[2]}", f"{WNIDS[0]}/{first[1]}", f"{WNIDS[0]}/{first[0]}"]
    path = tmp_path / "imagenet_test_image_ids.txt"
    path.write_text("\n".join(f"{line}.JPEG" for line in lines))
    options = {"source": imagenet / "ImageNet-C", "severities": (1, 2), "image_ids": path}
    result = scored(clean_folder(imagenet), ["gaussian_noise"], **options)
    assert result.n == 3
    assert [result.accuracy("gaussian_noise", s) for s in (1, 2)] == [2 / 3, 1 / 3]
    numbers = scored(
        clean_folder(imagenet), ["gaussian_noise"], **options | {"image_ids": [0, 1, 10]}
    )
    assert numbers.scores == result.scores  # 4 images a class: the last's third is number 10


def test_images_that_lack_or_differ_are_refused(imagenet, tmp_path):
    def copy(number, change):
        top = tmp_path / str(number) / "fog"
        write(top / "1", lambda label, index: label, "png")
        change(top / "1")
        options = {"source": top.parent, "severities": (1,)}
        with pytest.raises(UserError) as caught:
            scored(clean_folder(imagenet), ["fog"], **options)
        return str(caught.value)

    name = names_of(1)[0]
    image = f"{WNIDS[1]}/{name}.png"
    assert f"found 11 of 12 images, not {image}" in copy(0, lambda top: (top / image).unlink())
    assert "expected 32x32, as the clean images" in copy(
        1, lambda top: Image.new("RGB", (16, 16)).save(top / image)
    )
    moved = copy(2, lambda top: (top / image).rename(top / WNIDS[2] / f"{name}.png"))
    assert "whose clean image has another label than others of" in moved


def test_tiny_imagenet_c_is_of_other_images_and_scored_whole_only(tmp_path):
    """Its files have no counterpart among Tiny-ImageNet's: labels are those of the folders."""
    top = tmp_path / "Tiny-ImageNet-C/fog/1"
    for label, wnid in enumerate(WNIDS):
        (top / wnid).mkdir(parents=True)
        for index in range(PER_CLASS):
            image = np.full((64, 64, 3), label if index else 9, np.uint8)
            Image.fromarray(image).save(top / wnid / f"test_{index}.png")
    labels = np.repeat(np.arange(3), PER_CLASS)[::-1]
    images = np.broadcast_to(labels[:, None, None, None].astype(np.uint8), (12, 64, 64, 3)).copy()
    options = {"source": top.parent.parent, "severities": (1,), "name": "tiny_imagenet"}
    result = scored((images, labels), ["fog"], **options)
    assert (result.clean_accuracy, result.accuracy("fog", 1)) == (1.0, 9 / 12)
    with pytest.raises(UserError, match="whose corrupted set has other images; expected all"):
        scored((images, labels), ["fog"], max_images=5, **options)
    with pytest.raises(UserError, match="other labels than the clean images have"):
        scored((images, (labels + 1) % 3 * (labels > 0)), ["fog"], **options)


# --- a part of a set that TFDS has prepared ---


def test_a_part_of_a_prepared_set_is_scored_on_the_images_of_the_clean_part(tmp_path):
    """Before, `max_images` took the first rows of TFDS's order, which are other images."""
    archive = cifar10_c.arrays()
    labels = archive["labels"][:N].astype(int)
    wrong = np.isin(np.arange(N), [1, 2, 7, 11])
    archive["fog"][N : 2 * N] = images_of(np.where(wrong, (labels + 1) % 10, labels))
    (tmp_path / "source").mkdir()
    cifar10_c.prepare(archive, tmp_path / "source", tmp_path / "tfds")
    array_files.write(CIFAR10, "test", images_of(labels), labels, tmp_path / "tfds")
    options = {"severities": (2,), "data_dir": tmp_path / "tfds", "cache_dir": tmp_path / "cache"}
    whole = scored("cifar10", ["fog"], **options)
    assert whole.setting.source == "tfds/cifar10_corrupted"
    assert whole.accuracy("fog", 2) == 16 / 20
    first = scored("cifar10", ["fog"], max_images=8, **options)
    assert (first.n, first.clean_accuracy, first.accuracy("fog", 2)) == (8, 1.0, 5 / 8)
    chosen = scored("cifar10", ["fog"], image_ids=[11, 2, 3], **options)
    assert chosen.hits[Condition("fog", 2)].unpack(3).tolist() == [False, True, False]


def test_where_files_lie_is_no_part_of_their_key(cifar10_c_files, tmp_path):
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for path in (cifar10_c_files / "CIFAR-10-C").iterdir():
        (copy / path.name).symlink_to(path)
    opened = [corrupted_files.open_corrupted(path) for path in (cifar10_c_files, copy)]
    assert opened[0].checksum(FIFTEEN) == opened[1].checksum(FIFTEEN)
