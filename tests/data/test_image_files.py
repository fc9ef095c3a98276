"""Image files: the published resize and crop, labels from folders or a list, streams in order."""

import numpy as np
import pytest
from PIL import Image

from dst_jax import data
from dst_jax.data import image_files
from dst_jax.errors import UserError


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two classes, one with a name that sorts between the other and its slash, and other files."""
    for name in ("cat/2.png", "cat/1.PNG", "cat-like/deep/0.png", "dog/9.bmp"):
        save(tmp_path / name, picture(40, 50, len(name)))
    (tmp_path / "cat/readme.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    save(tmp_path / "cat/.hidden.png", picture(4, 4))
    return tmp_path


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (300, 300), (257, 431)])
def test_imagenets_recipe_is_torchvisions(tmp_path, height, width):
    """The sizes that torchvision's documentation gives: int(256 * long / short), round(half)."""
    image = picture(height, width)
    save(tmp_path / "a/1.png", image)
    (batch,) = image_files.folder(tmp_path).batches(1)
    short, long = sorted((height, width))
    longer = int(256 * long / short)
    size = (256, longer) if width == short else (longer, 256)
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    top, left = round((size[1] - 224) / 2.0), round((size[0] - 224) / 2.0)
    np.testing.assert_array_equal(batch["image"][0], resized[top : top + 224, left : left + 224])


def test_against_torchvision_itself(tmp_path):
    transforms = pytest.importorskip("torchvision.transforms", reason="torchvision is not there")
    recipe = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for number, (height, width) in enumerate([(375, 500), (501, 333), (257, 431), (224, 224)]):
        save(tmp_path / f"a/{number}.png", picture(height, width))
    (batch,) = image_files.folder(tmp_path).batches(4)
    for number, image in enumerate(batch["image"]):
        with Image.open(tmp_path / f"a/{number}.png") as file:
            np.testing.assert_array_equal(image, np.asarray(recipe(file.convert("RGB"))))


def test_an_image_of_the_side_stays_as_it_is(tmp_path):
    image = picture(32, 32)
    save(tmp_path / "a/1.png", image)
    (batch,) = image_files.folder(tmp_path, side=32).batches(1)
    np.testing.assert_array_equal(batch["image"][0], image)


def test_classes_are_the_sorted_folders_and_images_the_sorted_paths(photos):
    found = image_files.folder(photos, side=32)
    # As text, "-" comes before "/".
    assert found.names == ("cat-like/deep/0.png", "cat/1.PNG", "cat/2.png", "dog/9.bmp")
    assert found.classes == ("cat", "cat-like", "dog")
    assert found.labels.tolist() == [1, 0, 0, 2]
    batches = list(found.batches(3))
    assert [batch["id"].tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5]]
    assert batches[1]["label"].tolist() == [2, 0, 0]
    assert batches[1]["weight"].tolist() == [1, 0, 0]
    (some,) = found.batches(2, np.array([3, 1]))
    assert (some["id"].tolist(), some["label"].tolist()) == ([3, 1], [2, 0])
    np.testing.assert_array_equal(some["image"][1], batches[0]["image"][1])


def test_an_order_of_the_classes_may_be_given(photos):
    names = ("dog", "fish", "cat", "cat-like")
    assert image_files.folder(photos, class_names=names).labels.tolist() == [3, 2, 2, 0]
    with pytest.raises(UserError, match=r"cat-like: found a folder of no class; expected dog, cat"):
        image_files.folder(photos, class_names=("dog", "cat"))


def test_a_list_says_which_images_and_labels(photos, tmp_path):
    text = "# comment\n\ncat/2.png 7\ndog/9.bmp 0\n"
    (tmp_path / "list.txt").write_text(text)
    found = image_files.folder(photos, image_list=tmp_path / "list.txt")
    assert (found.names, found.labels.tolist()) == (("cat/2.png", "dog/9.bmp"), [7, 0])
    (tmp_path / "list.txt").write_text("cat/2.png kitten\n")
    named = {"image_list": tmp_path / "list.txt", "class_names": ("dog", "kitten")}
    assert image_files.folder(photos, **named).labels.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat/2.png\n", "line 1: found cat/2.png; expected PATH LABEL"),
        ("cat/2.png -1\n", "line 1: found cat/2.png -1; expected PATH LABEL"),
        ("", "found no line"),
        ("cat/2.png 1\ncat/2.png 1\n", "found cat/2.png 2 times"),
        ("cat/7.png 1\n", r"found cat/7.png, which is not in"),
    ],
)
def test_a_wrong_line_is_told(photos, tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        image_files.folder(photos, image_list=tmp_path / "list.txt")


def test_what_is_no_folder_of_images_is_told(tmp_path, photos):
    with pytest.raises(UserError, match="found no folder there"):
        image_files.folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="found no folder of a class"):
        image_files.folder(photos / "dog")
    with pytest.raises(UserError, match="side: found side 64, resize 32"):
        image_files.folder(photos, side=64, resize=32)
    (photos / "cat/2.png").write_bytes(b"no png")
    with pytest.raises(UserError, match=r"cat/2.png: found an unreadable image"):
        list(image_files.folder(photos, side=32).batches(2))


def test_no_image_is_left_out_or_numbered_otherwise_without_a_word(tmp_path):
    for name in ("cat/1.png", "cat/2.gif", "dog/3.ppm"):
        save(tmp_path / name, picture(32, 32))
    assert image_files.folder(tmp_path, side=32).names == ("cat/1.png", "cat/2.gif", "dog/3.ppm")
    (tmp_path / "ape").mkdir()  # it would make the cats dogs
    with pytest.raises(UserError, match=r"ape: found no image; expected images in the folder of a"):
        image_files.folder(tmp_path)
    named = image_files.folder(tmp_path, class_names=("ape", "cat", "dog"))
    assert named.labels.tolist() == [1, 1, 2]
    with pytest.raises(UserError, match="class_names: found cat twice"):
        image_files.folder(tmp_path, class_names=("ape", "cat", "dog", "cat"))
    (tmp_path / "ape").rmdir()
    save(tmp_path / "4.png", picture(32, 32))
    with pytest.raises(UserError, match=r"4.png: found an image in no folder of a class"):
        image_files.folder(tmp_path)
    (tmp_path / "list.txt").write_text("cat/1.png 0\n./cat/1.png 1\n")
    with pytest.raises(UserError, match=r"found cat/1.png 2 times; expected each image once"):
        image_files.folder(tmp_path, image_list=tmp_path / "list.txt")


def test_depth_alpha_palette_and_grey(tmp_path):
    """What is decoded, against the same picture written plainly; 16 bits of colour as Pillow."""
    grey = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
    colour = np.stack([grey, grey.T, 255 - grey], -1)
    alpha = np.where(grey < 128, 255, 0).astype(np.uint8)
    shown = np.where(alpha[..., None] > 0, colour, 255)
    deep = (grey.astype(np.uint16) << 8) + 200
    half = np.dstack([colour, np.full_like(grey, 128)])
    index = Image.fromarray(grey)
    palette = index.convert("P")
    palette.putpalette(colour.reshape(-1).tolist())
    pictures = {
        "grey": (index, np.dstack([grey] * 3)),
        "sixteen": (Image.fromarray(deep), np.dstack([grey] * 3)),
        "rgba": (Image.fromarray(np.dstack([colour, alpha])), shown),
        "opaque": (Image.fromarray(np.dstack([colour, np.full_like(grey, 255)])), colour),
        "half": (Image.fromarray(half), (colour * 128.0 + 255 * 127.0) / 255),
        "la": (Image.fromarray(np.dstack([grey, alpha])), np.dstack([shown_of(grey, alpha)] * 3)),
        "palette": (palette, colour),
    }
    for name, (picture, expected) in pictures.items():
        picture.save(tmp_path / f"{name}.png")
        found = np.asarray(image_files.opened(tmp_path / f"{name}.png")).astype(float)
        np.testing.assert_allclose(found, expected, atol=1 if name == "half" else 0, err_msg=name)
    palette.save(tmp_path / "key.png", transparency=3)
    clear = np.asarray(image_files.opened(tmp_path / "key.png"))
    assert (clear[0, 3] == 255).all()
    np.testing.assert_array_equal(clear[1:], colour[1:])
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(UserError, match=r"f.tif: found pixels of 32 bits"):
        image_files.opened(tmp_path / "f.tif")


def shown_of(grey, alpha):
    return np.where(alpha > 0, grey, 255)


def test_a_folder_decodes_sixteen_bits_and_alpha_too(tmp_path):
    for split in ("train", "test"):
        folder = tmp_path / split / "cat"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(folder / "deep.png")
        Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(folder / "glass.png")
    images, _ = data.image_folder("x", tmp_path, 8).read("test")
    assert [image[0, 0].tolist() for image in images] == [[40_000 >> 8] * 3, [255] * 3]
