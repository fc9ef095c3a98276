"""A part of ImageNet and of its prepared ImageNet-C, in other orders in TFDS: by file name."""

import io

import jax
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from dst_jax import data, robustness
from dst_jax.data import image_names, prepared
from dst_jax.data.builders import BUILDERS
from dst_jax.data.prepare import prepare
from dst_jax.errors import UserError
from dst_jax.robustness.records import CLEAN, Condition
from dst_jax.runtime.devices import Devices

WNIDS = ("n01440764", "n01443537", "n02123045")
SNOW = Condition("snow", 1)
# (label, name) in the published order: classes one after another, names ascending in each.
IMAGES = [
    (k, f"ILSVRC2012_val_{4 * i + (k + 2) % 3 + 1:08}.JPEG") for k in range(3) for i in range(4)
]
WRONG = {1, 2, 7, 11}  # numbers in that order, under snow


def jpeg(label):
    """A picture of one colour, which says what `predict` shall answer."""
    file = io.BytesIO()
    Image.new("RGB", (224, 224), (60 * label + 30, 60 * label + 30, 60 * label + 30)).save(
        file, "JPEG"
    )
    return file.getvalue()


def predict(images):
    return jax.nn.one_hot(images[:, 9, 9, 0] // 60, 1000)


class Imagenet2012(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Twelve images under the name, with the features and keys of TFDS's own."""

    VERSION = tfds.core.Version("5.1.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=1000),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"validation": self._generate_examples()}

    def _generate_examples(self):
        for label, name in IMAGES:
            yield name, {"image": io.BytesIO(jpeg(label)), "label": label, "file_name": name}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    source, target = tmp_path_factory.mktemp("ImageNet-C"), tmp_path_factory.mktemp("tfds")
    for number, (label, name) in enumerate(IMAGES):
        folder = source / "snow" / "1" / WNIDS[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg((label + 1) % 3 if number in WRONG else label))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BUILDERS["imagenet_c"], "NUM_CLASSES", 3)
        patch.setattr(BUILDERS["imagenet_c"], "IMAGES_PER_CLASS", 4)
        prepare("imagenet_c", source, target, only=["snow_1"])
        Imagenet2012(data_dir=target, file_format="tfrecord").download_and_prepare()
        yield target


def scored(data_dir, **options):
    options = {"batch_size": 4, "devices": Devices(devices=jax.devices()[:1]), **options}
    options |= {"data_dir": data_dir, "cache_dir": data_dir / "cache", "severities": (1,)}
    return robustness.evaluate(predict, "imagenet2012", ["snow"], quiet=True, **options)


def test_the_two_sets_are_in_other_orders(data_dir):
    """What the matching is for; and that `auto` finds the set."""
    builders = [prepared.find_config("imagenet2012", None, data_dir)]
    builders.append(prepared.find_config("imagenet_c", "snow_1", data_dir))
    orders = [
        [image_names.stem(n) for n in image_names.of_split(b, "validation", data_dir).names]
        for b in builders
    ]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    whole = scored(data_dir)
    assert whole.setting.source == "tfds/imagenet_c"
    assert (whole.clean_accuracy, whole.accuracy(*SNOW)) == (1.0, 8 / 12)


def test_a_part_is_the_same_images_in_both(data_dir):
    names = image_names.of_dataset(data.get("imagenet2012"), data_dir, data_dir / "cache")
    first = names.numbers[:5]
    result = scored(data_dir, max_images=5)
    assert result.hits[SNOW].unpack(5).tolist() == [n not in WRONG for n in first]
    assert result.hits[SNOW].images == result.hits[CLEAN].images


@pytest.mark.parametrize("by_name", [True, False])
def test_images_of_a_list(data_dir, by_name):
    chosen = [11, 3, 1, 6]
    listed = [f"{WNIDS[IMAGES[n][0]]}/{IMAGES[n][1]}" for n in chosen] if by_name else chosen
    result = scored(data_dir, image_ids=listed)
    assert result.n == 4
    names = image_names.of_dataset(data.get("imagenet2012"), data_dir, data_dir / "cache")
    in_order = [n for n in names.numbers if n in chosen]
    assert result.hits[SNOW].unpack(4).tolist() == [n not in WRONG for n in in_order]
    assert result.clean_accuracy == 1.0


def test_classes_may_be_chosen(data_dir):
    result = scored(data_dir, classes={0: 0, 2: 2})
    assert result.n == 8
    # Number 11 is taken for class 0; 1 and 2 for class 1, which does not count: the first is left.
    assert (result.clean_accuracy, result.accuracy(*SNOW)) == (1.0, 7 / 8)


def test_robustbenchs_list_needs_the_whole_set(data_dir):
    with pytest.raises(UserError, match="found robustbench for 12 images"):
        scored(data_dir, image_ids="robustbench")
