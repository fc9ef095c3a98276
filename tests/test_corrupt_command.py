"""`dst-jax corrupt`: a folder or an array in, corrupted files out; their scores, what resumes.

Written files are read with Pillow and NumPy here, and once by `evaluate` itself.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
from PIL import Image

from dst_jax import rendering, robustness
from dst_jax.errors import UserError
from dst_jax.rendering import inputs, outputs
from dst_jax.robustness.records import CLEAN
from dst_jax.runtime.interrupt import InterruptedRunError

pytestmark = pytest.mark.usefixtures("on_one_device")

CORRUPTIONS = ("gaussian_noise", "contrast", "glass_blur")
SEVERITIES = (1, 4)


# (height, width) -> the size that torchvision 0.28 gives with Resize(256), and the corner (top,
# left) of CenterCrop(224) there.
SIZES = [
    ((375, 500), (256, 341), (16, 58)),
    ((500, 333), (384, 256), (80, 16)),
    ((256, 256), (256, 256), (16, 16)),
    ((90, 61), (377, 256), (76, 16)),
    ((231, 2048), (256, 2269), (16, 1022)),
    ((255, 257), (256, 258), (16, 17)),
]


def smooth(random, side=32):
    """An image of a few waves: noise alone would be one class to any network."""
    y, x = np.mgrid[0:side, 0:side] / side
    waves = sum(
        np.sin(2 * np.pi * (a * x + b * y + c))[..., None] * random.normal(size=3)
        for a, b, c in random.uniform(-3, 3, (4, 3))
    )
    return np.clip(128 + 50 * waves, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """200 JPEGs of 32 pixels in four folders, two of them nested further."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    random = np.random.default_rng(0)
    for index in range(200):
        place = folder / ("bird", "cat", "dog/large", "dog/small")[index % 4]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth(random)).save(place / f"{index}.jpg", quality=95)
    return folder


def read_folder(folder):
    """(images, labels, relative paths) in the order of the paths as text."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    classes = sorted({name.split("/")[0] for name in names})
    images = np.stack([np.asarray(Image.open(folder / name)) for name in names])
    return images, np.array([classes.index(name.split("/")[0]) for name in names]), names


def predict(images):
    """A fixed network of random weights with four classes."""
    weights = jax.random.normal(jax.random.key(1), (8 * 8 * 3, 4))
    pooled = images.astype(jnp.float32).reshape(-1, 8, 4, 8, 4, 3).mean((2, 4)) / 255 - 0.5
    return pooled.reshape(len(images), -1) @ weights


@pytest.fixture(scope="module")
def written(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "photos-C"
    done = rendering.write_corrupted(photos, out, CORRUPTIONS, SEVERITIES, seed=3, quiet=True)
    assert done.written == 200 * len(CORRUPTIONS) * len(SEVERITIES)
    return out


def test_the_written_folder_scores_what_rendering_on_the_fly_does(photos, written):
    images, labels, names = read_folder(photos)
    result = robustness.evaluate(
        predict, (images, labels), CORRUPTIONS, severities=SEVERITIES, seed=3, jpeg85=False
    )
    assert 0.05 < result.clean_accuracy < 0.95
    hits = {}
    for condition in result.conditions:
        folder = written / condition.corruption / str(condition.severity)
        stored, same_labels, stored_names = read_folder(folder)
        assert [name[:-4] for name in stored_names] == [name[:-4] for name in names]
        assert np.array_equal(same_labels, labels)
        assert (stored != images).any()
        hits[condition] = np.asarray(jnp.argmax(predict(jnp.asarray(stored)), -1)) == labels
        assert result.accuracy(*condition) == hits[condition].mean()
        assert np.array_equal(result.hits[condition].unpack(200), hits[condition])
    means = [found.mean() for found in hits.values()]
    assert result.robust_accuracy == pytest.approx(np.mean(means), abs=1e-12)
    assert result.hits[CLEAN].images  # the images are on record


def test_evaluate_reads_what_was_written(photos, written, tmp_path):
    """Files that `evaluate` reads score what it renders itself, image by image."""
    folder = robustness.folder(photos, side=32)
    options = {"severities": SEVERITIES, "quiet": True}
    fresh = robustness.evaluate(predict, folder, CORRUPTIONS, seed=3, jpeg85=False, **options)
    rendering.write_corrupted(
        photos, tmp_path / "C", CORRUPTIONS, SEVERITIES, seed=3, format="npy", quiet=True
    )
    images, labels, _ = read_folder(photos)
    for clean, source in ((folder, written), ((images, labels), tmp_path / "C")):
        read = robustness.evaluate(predict, clean, CORRUPTIONS, source=str(source), **options)
        assert read.setting.source.startswith("files/")
        assert read.hits.keys() == fresh.hits.keys()
        for condition, record in fresh.hits.items():
            assert np.array_equal(record.bits, read.hits[condition].bits)
        ours, theirs = ([row.accuracy for row in r.scores] for r in (read, fresh))
        assert ours == theirs


def test_arrays_and_folders_find_each_others_counterparts(tmp_path):
    """Whatever was corrupted and however it was written, by the number or the name."""
    random = np.random.default_rng(2)
    images = np.stack([smooth(random) for _ in range(11)])
    labels = np.array([0] * 4 + [1] * 3 + [2] * 4)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "photos" / str(label) / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    np.save(tmp_path / "images.npy", images)
    folder = robustness.folder(tmp_path / "photos", side=32)
    options = {"severities": (4,), "quiet": True}
    expected = robustness.evaluate(predict, (images, labels), ["shot_noise"], **options)
    for source in ("photos", "images.npy"):
        for form in ("png", "npy"):
            out = tmp_path / f"{source}-{form}"
            arguments = (tmp_path / source, out, ["shot_noise"], (4,))
            rendering.write_corrupted(*arguments, format=form, quiet=True)
            for clean in ((images, labels), folder)[: 1 if source == "images.npy" else 2]:
                found = robustness.evaluate(predict, clean, ["shot_noise"], source=out, **options)
                for condition, record in expected.hits.items():
                    assert np.array_equal(record.bits, found.hits[condition].bits)
            for other in ((images[::-1].copy(), labels), (images[:, ::-1].copy(), labels)):
                with pytest.raises(
                    UserError, match=r"made of other images than (8|10|11) of the 11"
                ):
                    robustness.evaluate(predict, other, ["shot_noise"], source=out, **options)
    cropped = robustness.folder(tmp_path / "photos", side=32, resize=40)
    source = tmp_path / "photos-png"
    with pytest.raises(UserError, match=r"of the same size and crop \(--side, --resize\)"):
        robustness.evaluate(predict, cropped, ["shot_noise"], source=source, **options)


def test_the_array_layout_holds_the_same_images(photos, written, tmp_path):
    images, labels, _ = read_folder(photos)
    rendering.write_corrupted(
        photos, tmp_path / "C", CORRUPTIONS, SEVERITIES, seed=3, format="npy", quiet=True
    )
    for name in CORRUPTIONS:
        blocks = np.load(tmp_path / "C" / f"{name}.npy")
        assert (blocks.dtype, blocks.shape) == (np.uint8, (400, 32, 32, 3))
        for block, severity in zip(np.split(blocks, 2), SEVERITIES, strict=True):
            stored, _, _ = read_folder(written / name / str(severity))
            assert np.array_equal(block, stored)
    assert np.array_equal(np.load(tmp_path / "C" / "labels.npy"), [*labels, *labels])
    # The same from an array file, whose rows are the numbers.
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    rendering.write_corrupted(
        *(tmp_path / "images.npy", tmp_path / "D", CORRUPTIONS[0], SEVERITIES),
        **{"seed": 3, "format": "npy", "labels": str(tmp_path / "labels.npy"), "quiet": True},
    )
    for name in (f"{CORRUPTIONS[0]}.npy", "labels.npy"):
        assert (tmp_path / "C" / name).read_bytes() == (tmp_path / "D" / name).read_bytes()


def test_the_manifest_says_what_was_made_and_from_what(written, photos):
    manifest = json.loads((written / "manifest.json").read_text())
    assert (manifest["seed"], manifest["preset"], manifest["format"]) == (3, "cifar32", "png")
    assert manifest["versions"]["jax"] == jax.__version__
    assert manifest["inputs"]["images"] == 200
    assert manifest["inputs"]["classes"] == ["bird", "cat", "dog"]
    assert manifest["inputs"]["sizes"] == "as they are, each image in its own size"
    assert set(manifest["corruptions"]) == set(CORRUPTIONS)
    assert [manifest["corruptions"][name]["random"] for name in CORRUPTIONS] == [True, False, True]
    assert "one grey level" in manifest["corruptions"]["contrast"]["agreement"]
    rows = list(csv.DictReader((written / "images.csv").read_text().splitlines()))
    _, labels, names = read_folder(photos)
    assert [(row["path"], int(row["label"])) for row in rows] == [*zip(names, labels, strict=True)]
    assert [int(row["id"]) for row in rows] == list(range(200))


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def again(photos, out, form="png", **options):
    """The call of `written`, with changes."""
    given = {"corruptions": CORRUPTIONS, "severities": SEVERITIES, "seed": 3, "format": form}
    return rendering.write_corrupted(photos, out, **{**given, "quiet": True, **options})


def test_finished_files_are_not_rendered_again(photos, written, monkeypatch):
    whole = tree(written)
    lost = [written / "contrast" / "4" / f"bird/{index}.png" for index in (0, 4)]
    empty = written / "glass_blur" / "1" / "dog/large/2.png"
    for path in lost:
        path.unlink()
    empty.write_bytes(b"")  # as a file system leaves one after a power failure
    asked = []
    write = outputs.ImageFiles.write
    monkeypatch.setattr(
        outputs.ImageFiles,
        "write",
        lambda self, *what: asked.append(what[:3]) or write(self, *what),
    )
    assert again(photos, written).written == 3
    _, _, names = read_folder(photos)
    numbers = [names.index(f"{name}.jpg") for name in ("bird/0", "bird/4", "dog/large/2")]
    wanted = [("contrast", 4), ("contrast", 4), ("glass_blur", 1)]
    assert sorted(asked) == [(*c, number) for c, number in zip(wanted, numbers, strict=True)]
    assert tree(written) == whole
    assert again(photos, written).written == 0


@pytest.mark.parametrize("form", ["png", "npy"])
def test_what_is_stopped_goes_on_and_ends_the_same(photos, tmp_path, form, monkeypatch):
    again(photos, tmp_path / "whole", form)
    kind = outputs.ImageFiles if form == "png" else outputs.ArrayFiles
    write, count = kind.write, [0]

    def stop(self, *what):
        count[0] += 1
        if count[0] == 500:  # in the second corruption
            os.kill(os.getpid(), signal.SIGTERM)
        if count[0] > 900:
            raise OSError(28, "No space left on device")
        write(self, *what)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "write", stop)
        with pytest.raises(InterruptedRunError, match=r"of 1,200 images written.*same command"):
            again(photos, tmp_path / "parts", form)
        first = tree(tmp_path / "parts")
        if form == "npy":
            assert "contrast.npy" not in first  # and what is there is whole
            assert first["gaussian_noise.npy"] == tree(tmp_path / "whole")["gaussian_noise.npy"]
        with pytest.raises(UserError, match="found No space left on device; expected a directory"):
            again(photos, tmp_path / "parts", form)
    assert 0 < again(photos, tmp_path / "parts", form).written < 1200
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_a_process_that_is_killed_leaves_no_part_that_looks_whole(
    photos, written, cache_dir, tmp_path
):
    out = tmp_path / "out"
    command = [
        *(sys.executable, "run.py", "corrupt", str(photos), str(out), "--seed=3", "--workers=1"),
        *(f"--corruptions={','.join(CORRUPTIONS)}", "--severities=1,4"),
        f"--cache_dir={cache_dir.parent / 'corrupt'}",
    ]
    process = subprocess.Popen(command, cwd=runs.ROOT, env=runs.environment(), text=True)
    deadline = time.monotonic() + 120
    while len(list(out.rglob("*.png"))) < 30:
        assert process.poll() is None or len(list(out.rglob("*.png"))) >= 30
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    for path in out.rglob("*.png"):
        if not path.name.startswith("."):
            Image.open(path).load()
    done = runs.run(command)
    assert done.returncode == 0, done.stderr
    assert f"{out}: 6 conditions of 3 corruptions, " in done.stdout
    assert "1200/1200" in done.stderr
    assert "ETA 0:00:00" in done.stderr
    assert tree(out).keys() == tree(written).keys()  # this process compiles in another way


def test_more_is_added_beside_what_is_there(photos, tmp_path):
    np.save(tmp_path / "images.npy", read_folder(photos)[0][:5])
    source, out = tmp_path / "images.npy", tmp_path / "out"
    assert again(source, out, corruptions="contrast", severities=(3,)).written == 5
    assert again(source, out, corruptions=["contrast", "pixelate"], severities=(3, 5)).written == 15
    manifest = json.loads((out / "manifest.json").read_text())
    assert {name: entry["severities"] for name, entry in manifest["corruptions"].items()} == {
        "contrast": [3, 5],
        "pixelate": [3, 5],
    }
    assert sorted(path.name for path in (out / "contrast" / "5").iterdir()) == [
        f"{index}.png" for index in range(5)
    ]


def test_other_images_or_another_way_are_refused_with_what_differs(photos, written, tmp_path):
    for options, field in (
        ({"seed": 4}, r"manifest.json: seed: found 3; expected 4"),
        ({"form": "jpeg:85"}, r"manifest.json: format: found png; expected jpeg:85"),
        ({"preset": "tiny64"}, r"manifest.json: preset: found cifar32; expected tiny64"),
        ({"batch_size": 7}, r"manifest.json: batch_size: found 128; expected 7"),
        ({"side": 30}, r"inputs.sizes: found as they are.*; expected shorter side to 30"),
    ):
        with pytest.raises(UserError, match=field):
            again(photos, written, **{"preset": "cifar32", **options})
    changed = tmp_path / "photos"
    changed.mkdir()
    for index in range(2):
        Image.fromarray(read_folder(photos)[0][index]).save(changed / f"{index}.png")
    with pytest.raises(UserError, match=r"inputs.images: found 200; expected 2"):
        again(changed, written)
    again(changed, tmp_path / "out", "npy")
    with pytest.raises(UserError, match=r"noise.severities: found \[1, 4\]; expected \[1, 5\]"):
        again(changed, tmp_path / "out", "npy", severities=(1, 5))
    with pytest.raises(UserError, match=r"pixelate.severities: found \[1, 4\]; expected \[1\]"):
        again(changed, tmp_path / "out", "npy", corruptions="pixelate", severities=(1,))
    again(changed, tmp_path / "out", "npy", corruptions="pixelate", severities=(4, 1))
    Image.fromarray(read_folder(photos)[0][7]).save(changed / "1.png")
    with pytest.raises(
        UserError, match=r"inputs.sha256: found [0-9a-f]{64}; expected [0-9a-f]{64}"
    ):
        again(changed, tmp_path / "out", "npy")


def test_usage_errors_are_one_line_and_write_nothing(photos, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    image = np.zeros((20, 24, 3), np.uint8)
    folder = tmp_path / "odd"
    folder.mkdir()
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(image[:, :16]).save(folder / "b.png")
    np.save(tmp_path / "float.npy", np.zeros((2, 8, 8, 3)))
    clash = tmp_path / "clash"
    clash.mkdir()
    for name in ("a.png", "a.jpg"):
        Image.fromarray(image).save(clash / name)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    out = tmp_path / "out"
    for source, to, options, text in (
        (photos, tmp_path, {}, "found a directory with broken, clash, float.npy, ...; expected an"),
        (photos, photos / "C", {}, "found the folder of the images or one in it; expected"),
        (tmp_path / "no", out, {}, "found nothing; expected a folder of images, or a .npy of"),
        (tmp_path / "float.npy", out, {}, "found float64 [2, 8, 8, 3]; expected images uint8"),
        (tmp_path / "broken", out, {}, "a.png: found an unreadable image"),
        (clash, out, {"preset": "cifar32"}, "as which a.jpg and a.png are a.png and a.png"),
        (folder, out, {}, "preset: found nothing, for images of 20 x 16 to 20 x 24 pixels; exp"),
        (folder, out, {"resize": 24}, "--resize: found 24 with --side=0; expected at least a s"),
        (folder, out, {"side": 32, "resize": 24}, "--resize: found 24 with --side=32; expected"),
        (folder, out, {"preset": "cifar32", "form": "npy"}, "images of 2 sizes, as (20, 16) and"),
        (
            folder,
            out,
            {"preset": "cifar32", "corruptions": ["contrast", "sparkles"]},
            "sparkles: found images it cannot be rendered from",
        ),
        (photos, out, {"form": "gif"}, "--format: found gif; expected png, jpeg:QUALITY"),
        (photos, out, {"form": "jpeg:0"}, "--format: found jpeg:0; expected png, jpeg:QUALITY"),
        (photos, out, {"corruptions": "fogg"}, "corruptions: found fogg; expected one of common,"),
        (photos, out, {"severities": (6,)}, "severities: found 6; expected severities from 1 to 5"),
        (photos, out, {"labels": "x.npy"}, "--labels: found a folder of images; expected no lab"),
    ):
        with pytest.raises(UserError) as caught:
            again(source, to, **options)
        assert text in str(caught.value), text
        assert "\n" not in str(caught.value)
        assert not out.exists()
    assert "C" not in {path.name for path in photos.iterdir()}


def test_images_are_sized_as_those_of_imagenet(tmp_path):
    """The shorter side to 256 and the central 224 x 224, with torchvision's rounding."""
    folder = tmp_path / "in"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index, (given, _, _) in enumerate(SIZES):
        image = np.kron(smooth(random, 64), np.ones((-(-max(given) // 64),) * 2 + (1,), np.uint8))
        Image.fromarray(image[: given[0], : given[1]]).save(folder / f"{index}.png")
    with ThreadPoolExecutor() as pool:
        found = inputs.open_inputs(folder, "", 224, 256, pool)
    assert found.sizes == ((224, 224),) * len(SIZES)
    for index, (given, (height, width), (top, left)) in enumerate(SIZES):
        whole = Image.open(folder / f"{index}.png")
        if (height, width) != given:
            whole = whole.resize((width, height), Image.Resampling.BILINEAR)
        wanted = np.asarray(whole)[top : top + 224, left : left + 224]
        assert np.array_equal(found.read(index), wanted)


def test_a_grey_image_becomes_rgb(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(smooth(np.random.default_rng(0))[..., 0]).save(tmp_path / "in" / "a.png")
    again(tmp_path / "in", tmp_path / "out", corruptions="contrast", severities=(1,))
    result = np.asarray(Image.open(tmp_path / "out" / "contrast" / "1" / "a.png"))
    assert (result[..., :1] == result).all()


def test_its_own_help_and_flags():
    done = runs.run([sys.executable, "run.py", "corrupt", "--help"])
    assert done.returncode == 0
    assert done.stdout.startswith("dst-jax corrupt IN OUT [flags]\n")
    for flag in ("corruptions", "severities", "format", "seed", "workers", "frost_dir", "import"):
        assert f"\n  --{flag}: " in done.stdout
    assert "--config" not in done.stdout
    for arguments, text in (
        (["corrupt", "in"], "corrupt: found in; expected IN OUT. dst-jax corrupt --help lists"),
        (["corrupt", "in", "out", "--mode=all"], "Unknown command line flag 'mode'"),
        (["corrupt", "in", "out", "--seed=x"], "--seed: found x; expected a whole number"),
        (["corupt", "in", "out"], "found corupt in out; expected flags only"),
    ):
        done = runs.run([sys.executable, "run.py", *arguments])
        assert done.returncode == 2
        assert text in done.stderr
        assert done.stderr.count("\n") == 1
