"""Convolution and pooling against lax, Flax and PyTorch: values, derivatives, time in a loop."""

import functools
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import stablehlo
from dst_jax.models import convolution_cpu
from dst_jax.models.convolution import Conv, convolve, max_pool, pad_amounts


def lax_convolve(x, kernel, strides, padding):
    numbers = {
        2: ("NHWC", "HWIO", "NHWC"),
        3: ("NDHWC", "DHWIO", "NDHWC"),
    }[len(strides)]
    groups = x.shape[-1] // kernel.shape[-2]
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=numbers, feature_group_count=groups
    )


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def values_and_gradients(x, kernel, strides, ours, theirs):
    """(value, gradient of x, gradient of kernel) for each of the two paddings' functions."""
    results = []
    for function, padding in ((convolve, ours), (lax_convolve, theirs)):
        y, pullback = jax.vjp(lambda x, k, f=function, p=padding: f(x, k, strides, p), x, kernel)
        cotangent = jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype)
        results.append((y, *pullback(cotangent)))
    return results


def normal(seed, shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("image", [(8, 8), (9, 7)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_gradients_are_those_of_lax(size, stride, image, dtype):
    x, kernel = normal(1, (2, *image, 3), dtype), normal(2, (size, size, 3, 4), dtype)
    padding = ((size // 2, size // 2),) * 2
    ours, theirs = values_and_gradients(x, kernel, (stride, stride), padding, padding)
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-2
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype == dtype
        mine, other = np.asarray(mine, np.float32), np.asarray(other, np.float32)
        np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance * abs(other).max())


@pytest.mark.parametrize(
    ("strides", "padding"),
    [
        ((2, 1), "SAME"),
        ((3, 2), "VALID"),  # rows and columns at the end that no window reaches
        ((1, 2), ((0, 3), (2, 1))),
        ((2, 2), ((4, 4), (3, 5))),  # more padding than the kernel is wide
    ],
)
def test_unusual_strides_and_padding(strides, padding):
    x, kernel = normal(1, (2, 8, 9, 3)), normal(2, (3, 2, 3, 4))
    amounts = pad_amounts(padding, (8, 9), (3, 2), strides)
    ours, theirs = values_and_gradients(x, kernel, strides, amounts, padding)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


CASES = {
    # name: image, window, strides, padding, channels, outputs (None: depthwise), form
    "video": ((4, 6, 6), (3, 1, 1), (1, 1, 1), (1, 0, 0), 3, 4, "PLAIN"),
    "video with strides": ((4, 7, 8), (3, 3, 3), (1, 2, 2), (1, 1, 1), 3, 4, "PLAIN"),
    "depthwise": ((8, 9), (3, 3), (1, 1), (1, 1), 5, None, "DEPTHWISE"),
    "depthwise with strides": ((8, 9), (5, 5), (2, 2), (2, 2), 5, None, "DEPTHWISE"),
    "depthwise without padding": ((8, 9), (3, 2), (2, 3), (0, 0), 5, None, "DEPTHWISE"),
    "depthwise video": ((3, 5, 5), (3, 3, 3), (1, 1, 1), (1, 1, 1), 2, None, "DEPTHWISE"),
    "2x2 map": ((2, 2), (3, 3), (1, 1), (1, 1), 3, 4, "MATRIX"),
    "2x2 map with strides": ((2, 2), (3, 3), (2, 2), (1, 1), 3, 4, "MATRIX"),
    "1x1 map": ((1, 1), (3, 3), (1, 1), (1, 1), 3, 4, "MATRIX"),
    "2x1 map, 5x5 window": ((2, 1), (5, 5), (1, 1), (2, 2), 3, 4, "MATRIX"),
    "two frames": ((2, 1, 1), (3, 1, 1), (1, 1, 1), (1, 0, 0), 3, 4, "MATRIX"),
    "3x3 map": ((3, 3), (3, 3), (1, 1), (1, 1), 3, 4, "PLAIN"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_form_has_the_values_and_gradients_of_lax(name):
    image, window, strides, padding, channels, outputs, form = CASES[name]
    pads = tuple((side, side) for side in padding)
    x = normal(1, (2, *image, channels))
    kernel = normal(2, (*window, channels, outputs) if outputs else (*window, 1, channels))
    chosen = convolution_cpu.form_of(x.shape, kernel.shape, strides, pads)
    assert chosen is getattr(convolution_cpu, form)
    ours, theirs = values_and_gradients(x, kernel, strides, pads, pads)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["video with strides", "depthwise with strides", "2x2 map"])
def test_every_form_has_all_transforms(name):
    """Against lax: tangents of both or one, examples one by one, and second derivatives."""
    image, window, strides, padding, channels, outputs, _ = CASES[name]
    pads = tuple((side, side) for side in padding)
    x = normal(1, (2, *image, channels))
    kernel = normal(2, (*window, channels, outputs) if outputs else (*window, 1, channels))
    d_x, d_kernel = normal(3, x.shape), normal(4, kernel.shape)
    kernels = jnp.stack([kernel, d_kernel])

    def results(function):
        def features(x, kernel):
            return function(x, kernel, strides, pads)

        def loss(x, kernel):
            return jnp.cos(features(x, kernel)).sum()

        def along(x, kernel):
            return jax.jvp(loss, (x, kernel), (d_x, d_kernel))[1]

        return (
            jax.jvp(features, (x, kernel), (d_x, d_kernel)),
            jax.jvp(lambda x: features(x, kernel), (x,), (d_x,)),
            jax.jvp(lambda kernel: features(x, kernel), (kernel,), (d_kernel,)),
            jax.vmap(features, (None, 0))(x, kernels),
            jax.vmap(jax.grad(loss, (0, 1)), (None, 0))(x, kernels),
            jax.vmap(lambda tangent: jax.jvp(loss, (x, kernel), (d_x, tangent))[1])(kernels),
            jax.grad(along, (0, 1))(x, kernel),  # reverse over forward
            jax.jvp(jax.grad(loss, (0, 1)), (x, kernel), (d_x, d_kernel)),  # forward over reverse
            jax.grad(lambda x, k: (jax.grad(loss, 1)(x, k) ** 2).sum(), (0, 1))(x, kernel),
        )

    both = jax.jit(lambda: (results(convolve), results(lax_convolve)))()
    for mine, other in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4 * abs(other).max())


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the forms are for XLA:CPU")
def test_a_cpu_program_holds_the_form_that_is_meant():
    def program(x, kernel):
        gradient = jax.grad(lambda k: (convolve(x, k, (1, 1), ((1, 1), (1, 1))) ** 2).sum())
        return jax.jit(gradient).lower(kernel).compile().as_text()

    for small_map in (
        program(normal(0, (8, 2, 2, 16)), normal(1, (3, 3, 16, 16))),
        program(normal(0, (8, 6, 6, 16)), normal(1, (3, 3, 1, 16))),
    ):
        assert "convolution(" not in small_map


POOLINGS = [
    ((2, 2), (2, 2), (0, 0), (6, 7)),
    ((3, 3), (2, 2), (1, 1), (8, 9)),
    ((1, 3, 3), (1, 2, 2), (0, 1, 1), (3, 6, 6)),
    ((2, 1, 1), (2, 1, 1), (0, 0, 0), (5, 4, 4)),
]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("window", "strides", "padding", "image"), POOLINGS)
def test_pooling_is_that_of_flax(window, strides, padding, image, ties):
    x = normal(3, (2, *image, 4))
    if ties:  # a few values, at least one in each window more than once
        x = jnp.round(x)
    pads = tuple((side, side) for side in padding)
    tangent = normal(4, x.shape)

    def results(pool):
        def loss(x):
            y = pool(x, window, strides, pads)
            return (jnp.cos(jnp.arange(y.size).reshape(y.shape) + y)).sum()

        return (
            pool(x, window, strides, pads),
            jax.grad(loss)(x),
            jax.jvp(loss, (x,), (tangent,)),
            jax.jvp(jax.grad(loss), (x,), (tangent,)),
            jax.vmap(jax.grad(loss))(jnp.stack([x, tangent])),
        )

    both = jax.jit(lambda: (results(max_pool), results(nn.max_pool)))()
    for mine, other in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_maximum_goes_to_the_first_of_equal_values():
    image = [[1, 2, 0, 0], [2, 2, 0, 0], [3, 0, 0, 5], [0, 3, 5, 0]]
    x = jnp.asarray(image, jnp.float32)[None, :, :, None]
    weights = jnp.array([[1.0, 2], [3, 4]])[None, :, :, None]
    gradient = jax.grad(lambda x: (weights * max_pool(x, (2, 2), (2, 2))).sum())(x)
    expected = [[0, 1, 2, 0], [0, 0, 0, 0], [3, 0, 0, 4], [0, 0, 0, 0]]
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


@pytest.mark.parametrize(("window", "strides", "padding", "image"), POOLINGS)
def test_pooling_is_that_of_pytorch(window, strides, padding, image):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.random.default_rng(3).integers(0, 3, (2, *image, 4)).astype(np.float32)
    pads = tuple((side, side) for side in padding)
    y, pullback = jax.vjp(lambda x: max_pool(x, window, strides, pads), jnp.asarray(x))
    cotangent = np.random.default_rng(4).standard_normal(y.shape).astype(np.float32)
    theirs = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    pool = getattr(torch.nn.functional, f"max_pool{len(window)}d")
    output = pool(theirs, window, strides, padding)
    output.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    np.testing.assert_array_equal(y, np.moveaxis(output.detach().numpy(), 1, -1))
    found = np.moveaxis(theirs.grad.numpy(), 1, -1)
    np.testing.assert_allclose(pullback(cotangent)[0], found, rtol=1e-5, atol=1e-6)


def test_pooling_passes_nan_on():
    x = jnp.ones((1, 4, 4, 1)).at[0, [0, 3], [1, 2], 0].set(jnp.nan)
    found = np.isnan(max_pool(x, (2, 2), (2, 2)))[0, :, :, 0]
    np.testing.assert_array_equal(found, [[True, False], [False, True]])


@pytest.mark.parametrize("platform", stablehlo.PLATFORMS)
def test_accelerators_pool_with_the_operations_of_lax(platform):
    def gradient(x):
        return jax.grad(lambda x: max_pool(x, (3, 3), (2, 2)).sum())(x)

    text = str(stablehlo.lower(jax.jit(gradient), (jnp.ones((2, 8, 8, 4)),), platform))
    assert text.count("stablehlo.select_and_scatter") == 1
    assert "stablehlo.select " not in text


def test_depthwise_layer_wants_as_many_features_as_channels():
    layer = Conv(4, (3, 3), depthwise=True, use_bias=True)
    variables = layer.init(jax.random.key(0), normal(0, (1, 5, 5, 4)))
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {"kernel": (3, 3, 1, 4), "bias": (4,)}
    with pytest.raises(ValueError, match="depthwise: 4 features from 3 channels"):
        layer.init(jax.random.key(0), normal(0, (1, 5, 5, 3)))


@pytest.mark.parametrize("padding", ["SAME", "VALID", 1, (1, 2), ((0, 1), (2, 0))])
@pytest.mark.parametrize("strides", [1, 2, (1, 2)])
def test_layer_is_a_drop_in_for_flax(padding, strides):
    x = normal(0, (2, 7, 8, 3))
    ours = Conv(4, (3, 3), strides, padding)
    theirs = nn.Conv(4, (3, 3), strides, padding, use_bias=False)
    variables = {"params": {"kernel": normal(1, (3, 3, 3, 4))}}
    shapes = jax.eval_shape(ours.init, jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, shapes) == {"params": {"kernel": (3, 3, 3, 4)}}
    np.testing.assert_array_equal(ours.apply(variables, x), theirs.apply(variables, x))


def test_layer_computes_in_its_dtype_and_keeps_float32_weights():
    layer = Conv(4, (3, 3), dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), normal(1, (2, 4, 4, 3)))
    gradient = jax.grad(lambda v: layer.apply(v, normal(1, (2, 4, 4, 3))).sum().astype(jnp.float32))
    assert variables["params"]["kernel"].dtype == jnp.float32
    assert gradient(variables)["params"]["kernel"].dtype == jnp.float32
    assert layer.apply(variables, normal(1, (2, 4, 4, 3))).dtype == jnp.bfloat16


def _loss(kernel, x):
    return (convolve(x, kernel, (2, 2), ((1, 1), (1, 1))) ** 2).mean()


def test_gradient_of_a_sharded_batch_needs_one_reduction_only():
    x, kernel = normal(0, (8, 8, 8, 3)), normal(1, (3, 3, 3, 4))
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    replicated = NamedSharding(mesh, PartitionSpec())
    gradient = jax.jit(jax.grad(_loss), out_shardings=replicated)
    rows = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    compiled = gradient.lower(jax.device_put(kernel, replicated), rows).compile()
    np.testing.assert_allclose(
        compiled(jax.device_put(kernel, replicated), rows), jax.grad(_loss)(kernel, x), rtol=1e-4
    )
    text = compiled.as_text()
    assert text.count("all-reduce(") == 1
    assert "all-gather(" not in text
    assert "conditional(" not in text  # the platform is known when compiling


def test_gradient_under_pmap():
    x, kernel = normal(0, (4, 2, 8, 8, 3)), normal(1, (3, 3, 3, 4))
    mean_gradient = jax.pmap(
        lambda kernel, x: lax.pmean(jax.grad(_loss)(kernel, x), "batch"),
        axis_name="batch",
        in_axes=(None, 0),
    )
    expected = jax.grad(_loss)(kernel, x.reshape(8, 8, 8, 3))
    np.testing.assert_allclose(mean_gradient(kernel, x)[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the slow loop is XLA:CPU's")
@pytest.mark.parametrize(
    ("image", "window", "inputs"),
    [
        ((16, 16), (3, 3), 32),
        ((16, 16), (3, 3), 1),
        ((2, 2), (3, 3), 32),
        ((4, 8, 8), (3, 1, 1), 32),
    ],
    ids=["plain", "depthwise", "matrix", "video"],
)
def test_loop_is_not_slower_than_dispatches(image, window, inputs):
    x, kernel = normal(0, (16, *image, 32)), normal(1, (*window, inputs, 32)) / 20
    strides, padding = (1,) * len(image), tuple((size // 2,) * 2 for size in window)

    def step(kernel):
        def loss(kernel):
            y = convolve(x, kernel, strides, padding)
            return (convolve(y, kernel, strides, padding) ** 2).mean()

        return kernel - 1e-3 * jax.grad(loss)(kernel)

    one = jax.jit(step)
    loop = jax.jit(lambda kernel: lax.fori_loop(0, 8, lambda _, kernel: step(kernel), kernel))

    def dispatches(kernel):
        for _ in range(8):
            kernel = one(kernel)
        return kernel

    np.testing.assert_allclose(loop(kernel), dispatches(kernel), rtol=1e-4, atol=1e-6)
    best = {loop: np.inf, dispatches: np.inf}
    for _ in range(5):
        for run in best:
            start = time.perf_counter()
            jax.block_until_ready(run(kernel))
            best[run] = min(best[run], time.perf_counter() - start)
    # About 1; a plain convolution gives 10 to 25. The room is for other work on the machine.
    assert best[loop] < 4 * best[dispatches]
