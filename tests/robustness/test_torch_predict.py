"""PyTorch modules as predict functions, against the same weights in JAX."""

import jax
import numpy as np
import pytest

from dst_jax import robustness
from dst_jax.errors import UserError
from dst_jax.runtime.devices import Devices

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

ONE = Devices(devices=jax.devices()[:1])
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (23, 32, 32, 3), dtype=np.uint8)
    return images, random.integers(0, 4, 23).astype(np.int32)


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=2),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Dropout(0.5),
            torch.nn.Linear(8, 4),
        )


def in_jax(module):
    """The same network in JAX, from its state dict; in evaluation mode."""
    state = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}

    def predict(images):
        x = (images / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
        kernel = state["0.weight"].transpose(2, 3, 1, 0)
        dimensions = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "VALID", dimension_numbers=dimensions, precision="highest"
        )
        x = x + state["0.bias"][None, None, None]
        scale = state["1.weight"] / np.sqrt(state["1.running_var"] + 1e-5)
        x = (x - state["1.running_mean"][None, None, None]) * scale[None, None, None]
        x = jax.nn.relu(x + state["1.bias"][None, None, None]).mean((1, 2))
        return x @ state["6.weight"].T + state["6.bias"][None]

    return predict


def evaluated(dataset, predict, **options):
    options = {"severities": (3, 5), "batch_size": 7, "devices": ONE, "quiet": True, **options}
    return robustness.evaluate(predict, dataset, ["contrast"], **options)


def predict_of(module, **options):
    return robustness.torch_predict(module, MEAN, STD, **options)


@pytest.mark.parametrize("devices", [ONE, None])
def test_it_scores_as_the_same_weights_in_jax(dataset, devices):
    module = network()
    with torch.no_grad():  # so that BatchNorm does something in evaluation mode
        module(torch.randn(8, 3, 32, 32))
    found = evaluated(dataset, predict_of(module), devices=devices)
    expected = evaluated(dataset, in_jax(module))
    assert [row.accuracy for row in found.scores] == [row.accuracy for row in expected.scores]
    for ours, theirs in zip(found.scores, expected.scores, strict=True):
        assert ours.ece == pytest.approx(theirs.ece, abs=1e-4)
    with pytest.raises(UserError, match=r"predict: images: found float64 \[.*; expected uint8"):
        predict_of(module)(dataset[0] / 255)
    logits = predict_of(module)(dataset[0])
    np.testing.assert_allclose(logits, in_jax(module)(dataset[0]), atol=1e-5)


class Keeps(torch.nn.Module):
    """Remembers what it was given, and in which mode."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4, dtype=dtype))
        self.dropout = torch.nn.Dropout()
        self.frozen = torch.nn.BatchNorm2d(3).eval()

    def forward(self, x):
        self.given, self.mode = x, (self.training, self.dropout.training, torch.is_grad_enabled())
        return x.flatten(1)[:, :4] + self.weight


def test_it_normalises_as_torchvision(dataset):
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    transforms = torchvision.transforms
    expected = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    module = Keeps()
    predict_of(module)(dataset[0])
    for image, found in zip(dataset[0], module.given, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected(image.copy()).numpy())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_layout_and_the_numbers_in_it(dataset, layout):
    module = Keeps()
    predict_of(module, layout=layout)(jax.device_put(dataset[0]))
    expected = (dataset[0] / 255.0 - np.array(MEAN)) / np.array(STD)
    if layout == "NCHW":
        expected = np.moveaxis(expected, -1, 1)
    np.testing.assert_allclose(module.given.numpy(), expected, atol=1e-6)
    assert module.given.is_contiguous()


def test_images_are_handed_over_by_dlpack_from_one_device(dataset, monkeypatch):
    handed = []
    from_dlpack = torch.from_dlpack
    monkeypatch.setattr(torch, "from_dlpack", lambda x: handed.append(x) or from_dlpack(x))
    predict = predict_of(network())
    evaluated(dataset, predict, severities=(3,))
    assert handed
    assert all(isinstance(images, jax.Array) for images in handed)
    handed.clear()
    assert Devices().count > 1
    evaluated(dataset, predict, severities=(3,), devices=None)
    predict(dataset[0])
    assert len(handed) == 1  # the trial before the evaluation, on one device
    np.testing.assert_array_equal(predict(dataset[0]), predict(jax.device_put(dataset[0])))


def test_it_is_asked_in_evaluation_mode_and_left_as_it_was(dataset):
    module = Keeps()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    predict_of(module)(dataset[0])
    assert module.mode == (False, False, False)
    assert (module.training, module.dropout.training, module.frozen.training) == (True, True, False)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    module.forward = None
    with pytest.raises(TypeError):
        predict_of(module)(dataset[0])
    assert module.training
    module.eval()
    with pytest.raises(TypeError):
        predict_of(module)(dataset[0])
    assert not module.training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_module_gets_the_type_of_its_weights(dataset, tmp_path, dtype):
    module = Keeps(dtype)
    evaluated(dataset, predict_of(module), path=tmp_path, severities=(3,))
    assert module.given.dtype == dtype
    with torch.no_grad():
        module.weight += 1e-3
    with pytest.raises(UserError, match="found scores of another model"):
        evaluated(dataset, predict_of(module), path=tmp_path, severities=(3,))


def test_an_object_with_logits_is_taken(dataset):
    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = network()

        def forward(self, x):
            return Output(self.inside(x))

    wrapped, plain = predict_of(Wrapped()), predict_of(network())
    np.testing.assert_array_equal(wrapped(dataset[0]), plain(dataset[0]))


def test_weights_buffers_and_normalisation_identify_the_model(dataset, tmp_path):
    options = {"path": tmp_path, "severities": (3,)}
    first = evaluated(dataset, predict_of(network()), **options)
    again = network()
    predict = predict_of(again)
    assert evaluated(dataset, predict, **options).scores == first.scores
    others = [robustness.torch_predict(network(), MEAN, (0.229, 0.224, 0.2250001))]
    for change in ("0.weight", "1.running_mean"):
        other = network()
        with torch.no_grad():
            other.state_dict()[change].view(-1)[0] += 1e-6
        others.append(predict_of(other))
    for other in others:
        with pytest.raises(UserError, match="found scores of another model"):
            evaluated(dataset, other, **options)
    again.load_state_dict(network(1).state_dict())  # after `torch_predict`, but seen
    with pytest.raises(UserError, match="found scores of another model"):
        evaluated(dataset, predict, **options)


def test_mistakes_are_one_line(dataset):
    module = network()
    for arguments, text in (
        ((len, MEAN, STD), "module: found builtin_function_or_method; expected a torch.nn.Module"),
        (
            (module, (124, 116, 104), STD),
            r"mean: found \(124, 116, 104\); expected three numbers, ",
        ),
        ((module, 0.5, STD), "mean: found 0.5; expected three numbers"),
        ((module, MEAN, (0.2, 0.2, 0)), "std: found .*; expected three numbers above 0"),
        ((module, MEAN, STD, "CHW"), "layout: found CHW; expected NCHW or NHWC"),
    ):
        with pytest.raises(UserError, match=text):
            robustness.torch_predict(*arguments)
    with pytest.raises(UserError, match=r"Use robustness.torch_predict\(module, mean, std\)") as e:
        evaluated(dataset, module)
    assert "\n" not in str(e.value)
    with pytest.raises(UserError, match="on the host, with a NumPy array, RuntimeError: mat1 and"):
        evaluated(dataset, predict_of(torch.nn.Linear(5, 4)))
