"""Images as people have them: floats, grey, NCHW, Pillow's; lists of ids and maps of classes."""

import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dst_jax import robustness
from dst_jax.data import image_names
from dst_jax.errors import UserError
from dst_jax.robustness import array_batches, grey, predict_functions, selection, suites
from dst_jax.robustness import images as images_lib
from dst_jax.robustness.class_map import ClassMap
from dst_jax.robustness.engine import Engine
from dst_jax.robustness.records import CLEAN, Condition
from dst_jax.runtime.devices import Devices

ONE = Devices(devices=jax.devices()[:1])


def predict(images):
    """Ten classes by the first pixel."""
    return jax.nn.one_hot(images[:, 0, 0, 0] // 25, 10)


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    images = random.integers(0, 250, (12, 32, 32, 3), dtype=np.uint8)
    return images, (images[:, 0, 0, 0] // 25).astype(np.int64)


def scored(images, function=predict, suite=("contrast",), **options):
    options = {"severities": (3,), "batch_size": 5, "devices": ONE, "quiet": True, **options}
    return robustness.evaluate(function, images, list(suite), **options)


def bits(result):
    return {c: (hits.images, *hits.bits) for c, hits in result.hits.items()}


def test_floats_of_whole_levels_are_those_levels(dataset):
    images, labels = dataset
    expected = scored(dataset)
    for dtype in (np.float16, np.float32, np.float64):
        found = scored(((images / 255).astype(dtype), labels), scale="unit")
        assert found.setting == expected.setting
        assert bits(found) == bits(expected)
    batches = [(images[:7] / 255, labels[:7]), (images[7:] / 255, labels[7:])]
    assert bits(scored(batches, scale="unit")) == bits(expected)


def test_other_floats_become_the_nearest_level_ties_to_the_even_one():
    levels = np.array([0.0, 0.4, 0.6, 1.5, 2.5, 254.51, 255.0]) / 255
    images = np.broadcast_to(levels[:, None, None, None], (7, 2, 2, 3))
    assert array_batches.as_rgb(images, "unit")[:, 0, 0, 0].tolist() == [0, 0, 1, 2, 2, 255, 255]


@pytest.mark.parametrize(
    ("images", "scale", "text"),
    [
        (
            np.zeros((2, 3, 8, 8), np.uint8),
            "",
            r"images uint8 [2, 3, 8, 8]: NCHW; expected "
            "[N, H, W, 3]: images.transpose(0, 2, 3, 1)",
        ),
        (np.zeros((2, 1, 8, 8), np.float32), "unit", "images float32 [2, 1, 8, 8]: NCHW"),
        (np.zeros((2, 8, 8, 3)), "", 'For floats in [0, 1] say scale="unit"'),
        (np.zeros((2, 8, 8, 3), np.uint8), "unit", "expected images floats [N, H, W, 3] in [0, 1]"),
        (np.full((2, 8, 8, 3), 1.01), "unit", "floats from 1.01 to 1.01; expected those of [0, 1]"),
        (np.full((2, 8, 8, 3), -0.01), "unit", "floats from -0.01 to -0.01"),
        (np.full((2, 8, 8, 3), np.nan), "unit", "floats from nan to nan"),
        (np.zeros((2, 8, 8, 4), np.uint8), "", "images uint8 [2, 8, 8, 4]; expected images uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), "byte", "scale: found byte"),
        (np.ones((2, 8, 8, 3), np.uint8), "", "found no level above 1 of 255; expected levels 0"),
        (np.full((2, 8, 8, 3), 1 / 255), "unit", "Were they divided by 255 once too often"),
    ],
)
def test_what_is_not_taken_is_told(images, scale, text):
    with pytest.raises(UserError, match=re.escape(text)):
        scored((images, np.zeros(2, int)), scale=scale)


def test_grey_images_stay_grey_and_are_another_score(dataset):
    images, labels = dataset
    one_channel = images[..., :1]
    first = scored((one_channel, labels))
    assert first.setting.source == "rendered+grey"
    assert bits(scored((one_channel[..., 0], labels))) == bits(first)
    assert bits(scored([(one_channel[:5], labels[:5]), (one_channel[5:], labels[5:])])) == bits(
        first
    )
    colour = scored((np.repeat(one_channel, 3, -1), labels))
    assert colour.setting.source == "rendered"
    with pytest.raises(UserError, match="other result: source"):
        first.difference(colour)
    with pytest.raises(UserError, match="grey batches and batches in colour"):
        scored([(one_channel[:5], labels[:5]), (images[5:], labels[5:])])


def test_what_is_rendered_of_grey_images_is_grey(dataset):
    source = images_lib.open_source((dataset[0][..., 0], dataset[1]), "", 0, None, None)
    (batch,) = images_lib.CleanImages(source, ONE, 12)()
    for name in ("gaussian_noise", "saturate", "spatter"):
        rendered = {}
        for grey_ in (False, True):
            plan = suites.plan([name], None, "cifar32", grey=grey_)
            rendered[grey_] = np.asarray(Engine(plan, ONE).render(Condition(name, 4), batch))
        assert (rendered[True] == rendered[True][..., :1]).all(), name
        assert (rendered[False] != rendered[False][..., :1]).any(), name  # it is not so by itself
        if name != "spatter":
            np.testing.assert_array_equal(rendered[True][..., 0], rendered[False][..., 0])


def test_rules_of_grey_are_the_published_ones():
    """imagecorruptions on [H, W]: noise once per pixel; red of saturate; 0.299, 0.587, 0.114."""
    images = np.random.default_rng(1).integers(0, 256, (2, 4, 4, 3), np.uint8)
    for name in ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "saturate"):
        expected = np.repeat(images[..., :1], 3, -1)
        np.testing.assert_array_equal(grey.as_grey(name, jnp.asarray(images)), expected)
    found = np.asarray(grey.as_grey("spatter", jnp.asarray(images)))
    luma = images.astype(float) @ [0.299, 0.587, 0.114]
    assert (found == found[..., :1]).all()
    assert np.abs(found[..., 0] - luma).max() <= 0.51
    level = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    np.testing.assert_array_equal(grey.as_grey("frost", jnp.asarray(level)), level)


def test_some_images_score_as_they_do_among_all(dataset):
    chosen = [7, 2, 9]
    full = scored(dataset, suite=("gaussian_noise",))
    found = scored(dataset, suite=("gaussian_noise",), image_ids=chosen)
    assert found.n == 3
    for condition, hits in found.hits.items():
        expected = full.hits[condition].unpack(12)[sorted(chosen)]
        np.testing.assert_array_equal(hits.unpack(3), expected)
    by_batches = scored([dataset], suite=("gaussian_noise",), image_ids=chosen)
    assert bits(by_batches) == bits(found)
    first_two = scored(dataset, suite=("gaussian_noise",), image_ids=chosen, max_images=2)
    assert first_two.n == 2
    assert bits(first_two) == bits(scored(dataset, suite=("gaussian_noise",), image_ids=[2, 7]))


def test_a_list_of_ids_may_be_a_file(dataset, tmp_path):
    (tmp_path / "ids.txt").write_text("# mine\n7\n2\n\n9\n")
    assert bits(scored(dataset, image_ids=tmp_path / "ids.txt")) == bits(
        scored(dataset, image_ids=np.array([2, 7, 9]))
    )


@pytest.mark.parametrize(
    ("image_ids", "text"),
    [
        ([3, 12], "image_ids: found image 12; expected numbers from 0 to 11"),
        ([3, 3], "found 3 twice; expected each image once"),
        ([3, "a"], "expected numbers or file names"),
        (["a.png"], "found 0 of 1 images, not a.png"),
        ("no_file.txt", "no_file.txt: found an unreadable file"),
        ("robustbench", "image_ids: found robustbench for 12 images; expected a list of images"),
    ],
)
def test_a_wrong_id_is_told(dataset, image_ids, text):
    with pytest.raises(UserError, match=text):
        scored(dataset, image_ids=image_ids)


def test_robustbenchs_images_are_those_of_its_list():
    """The list in RobustBench's repository, `helper_files/imagenet_test_image_ids.txt`: its first
    images are ILSVRC2012_val_00015253 of class 979, 00020685 of 441, and so on."""
    numbers = selection.robustbench_numbers()
    assert len(set(numbers.tolist())) == 5000
    classes = numbers // 50
    assert classes[:8].tolist() == [979, 441, 980, 737, 581, 70, 540, 760]
    digest = hashlib.sha256(classes.astype("<i4").tobytes()).hexdigest()
    assert digest == "025824327f78ef50e354004c8bd97cd05d4431a893a70816be261616762b120f"


def test_robustbenchs_images_are_those_that_pytorch_shuffles_to_the_front():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):  # the numbers that the loader draws for itself
        torch.empty((), dtype=torch.int64).random_(generator=generator)
    expected = torch.randperm(50_000, generator=generator)[:5000].numpy()
    np.testing.assert_array_equal(selection.robustbench_numbers(), expected)


def test_robustbench_wants_imagenet_class_after_class():
    labels = np.arange(50_000) // 50
    rows = selection.chosen_rows("robustbench", 50_000, lambda: None, labels, None, "image_ids")
    np.testing.assert_array_equal(rows, np.sort(selection.robustbench_numbers()))
    wrong = labels[::-1]
    with pytest.raises(UserError, match="found robustbench for 50,000 images"):
        selection.chosen_rows("robustbench", 50_000, lambda: None, wrong, None, "image_ids")


def known(images):
    """A model of 20 classes, of which the dataset's 0 to 9 are 19, 17, ..., 1."""
    return jnp.zeros((len(images), 20)).at[:, 1::2].set(predict(images)[:, ::-1]) + 0.5


def test_a_list_of_logits_restricts_a_model_to_the_datasets_classes(dataset):
    expected = scored(dataset)
    logits = list(range(19, 0, -2))
    found = scored(dataset, known, classes=logits)
    assert [row.accuracy for row in found.scores] == [row.accuracy for row in expected.scores]
    assert found.clean_accuracy == 1.0
    assert re.fullmatch(r"rendered\+classes-[0-9a-f]{8}", found.setting.source)
    weights = jax.tree_util.Partial(lambda w, x: known(x) * w, jnp.float32(2))
    assert bits(scored(dataset, weights, classes=logits)) == bits(found)


def test_logits_of_other_labels_do_not_count(dataset):
    labels = dataset[1]
    always = lambda x: known(x).at[:, 0].set(9.0)  # noqa: E731 - surest of what is no label
    assert scored(dataset, always).clean_accuracy == np.mean(labels == 0)
    assert scored(dataset, always, classes=list(range(19, 0, -2))).clean_accuracy == 1.0


def test_a_map_leaves_out_images_of_other_labels(dataset, tmp_path):
    labels = dataset[1]
    kept = sorted(set(labels.tolist()))[:3]
    mapping = {label: [19 - 2 * label, 0] for label in kept[:1]}
    mapping |= {label: 19 - 2 * label for label in kept[1:]}
    found = scored(dataset, known, classes=mapping)
    assert found.n == np.isin(labels, kept).sum() < len(labels)
    assert found.clean_accuracy == 1.0
    rows = [[label, *np.atleast_1d(logits)] for label, logits in mapping.items()]
    lines = [" ".join(map(str, row)) for row in rows]
    (tmp_path / "map.txt").write_text("\n".join(lines))
    assert scored(dataset, known, classes=tmp_path / "map.txt").scores == found.scores
    assert bits(scored([dataset], known, classes=mapping)) == bits(found)


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ([], "classes: found"),
        ([1, 1], "found logit 1 for several labels"),
        ([-1, 2], "classes: found"),
        ([0.5], "classes: found"),
        ({3: [4, 5]}, "found a single label, of which every image would be right"),
        ([*range(9), 20], "predict: found logits of 20 classes; expected more than 20"),
        ({3: "x"}, "classes: found"),
    ],
)
def test_a_wrong_map_is_told(dataset, classes, text):
    with pytest.raises(UserError, match=text):
        scored(dataset, known, classes=classes)


def test_a_map_takes_arrays_of_numpy_too():
    logits = np.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(ClassMap([3, 0])(logits, 0), logits[:, [3, 0]])
    found = ClassMap({1: [0, 2], 0: 3})(logits, 3)
    np.testing.assert_array_equal(found[:, :2], [[3, 2], [7, 6]])
    assert (found[:, 2] < -1e29).all()


def test_pillow_images_are_batched(dataset):
    images, labels = dataset
    examples = [
        {"image": Image.fromarray(image), "label": int(label)}
        for image, label in zip(images, labels, strict=True)
    ]
    expected = bits(scored(dataset))
    assert bits(scored(robustness.pil_images(examples, side=32))) == expected
    pairs = [(example["image"], example["label"]) for example in examples]
    assert bits(scored(robustness.pil_images(pairs, side=32))) == expected
    renamed = [{"img": e["image"], "fine_label": e["label"]} for e in examples]
    given = robustness.pil_images(renamed, side=32, image="img", label="fine_label")
    assert bits(scored(given)) == expected
    with pytest.raises(UserError, match=r"robustness.pil_images\(dataset, side=...\)"):
        scored(examples)
    with pytest.raises(UserError, match=r"pil_images: found \['img', 'fine_label'\]"):
        scored(robustness.pil_images(renamed, side=32))


def test_a_folder_scores_as_its_arrays(dataset, tmp_path):
    images, labels = dataset
    paths = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / f"{label}" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
        paths.append(f"{label}/{number:02}.png")
    order = np.argsort(paths)
    names = [str(label) for label in range(10)]
    found = scored(
        robustness.folder(tmp_path, side=32, class_names=names), suite=("gaussian_noise",)
    )
    expected = scored((images[order], labels[order]), suite=("gaussian_noise",))
    assert found.setting == expected.setting
    assert bits(found) == bits(expected)
    chosen = scored(
        robustness.folder(tmp_path, side=32, class_names=names),
        suite=("gaussian_noise",),
        image_ids=[paths[3], paths[8].replace(".png", ".JPEG")],
    )
    assert (chosen.n, chosen.accuracy(*CLEAN)) == (2, 1.0)


def test_numbers_that_are_also_names_are_asked_about(tmp_path):
    names = image_names.Names(np.array(["cat/3.png", "cat/7.png", "dog/0.png"]), np.arange(3))

    def rows(image_ids):
        return selection.chosen_rows(image_ids, 3, lambda: names, None, None, "image_ids").tolist()

    assert rows([0, 2]) == [0, 2]
    assert rows(["7", "cat/3.png"]) == [0, 1]  # names, as not all are numbers
    (tmp_path / "ids.txt").write_text("0\n2\n")
    for given in (tmp_path / "ids.txt", ["0", "2"]):
        with pytest.raises(
            UserError, match=r"found 0, the number of cat/3.png and the name of dog"
        ):
            rows(given)
    with pytest.raises(UserError, match=r"found 0 of 1 images, not 00; expected"):
        rows(["00"])  # no number, but a name
    with pytest.raises(UserError, match=r"image_ids: found cat/0.png, of which there is dog/0.png"):
        rows(["cat/0.png"])


@pytest.mark.parametrize(
    "ids", [["a", "b"], [0.5, 1.5], [2**40, 1], [-1, 0], [1]], ids=("text", "half", "big", "-", "1")
)
def test_ids_are_whole_numbers(ids):
    batch = {"image": np.full((2, 8, 8, 3), 9, np.uint8), "label": [0, 1], "id": ids}
    with pytest.raises(UserError, match=r"dataset: found ids .* expected one whole number per im"):
        array_batches.parts_of(batch, 0)
    with pytest.raises(UserError, match="dataset: found labels uint64"):
        array_batches.parts_of({**batch, "label": np.array([0, 2**33], np.uint64)}, 0)


def test_a_set_that_is_another_one_in_its_second_pass_is_refused(dataset):
    """As a DataLoader with shuffle: its ids would be other images under each corruption."""
    random = np.random.default_rng(0)

    class Shuffled:
        def __iter__(self):
            order = random.permutation(12)
            yield dataset[0][order], dataset[1][order]

    source = images_lib.open_source(Shuffled(), "", 0, None, None)
    clean = images_lib.CleanImages(source, ONE, 5, budget=0)
    assert len(list(clean())) == 3
    with pytest.raises(UserError, match="dataset: found other images in a second pass over it"):
        list(clean())


def test_a_map_of_classes_keeps_the_weights_that_identify_a_module():
    class Module:
        def __init__(self):
            self.variables = {"w": np.arange(3.0)}

        def __call__(self, images):
            return known(images)

    mapped = ClassMap([1, 3]).applied(Module(), 0)
    assert predict_functions.digest_of_module(mapped) != ""
    assert predict_functions.digest_of_module(mapped) == predict_functions.digest_of_module(
        Module()
    )
