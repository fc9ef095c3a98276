"""Our programs lower for cuda and tpu on a machine that has neither, and the checks can fail.

The list is that of `benchmarks.lowering_cases`; `python -m benchmarks.lowering` prints it. The
programs that say most are lowered here, the rest with `-m full`.
"""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
from jax import lax

from benchmarks import lowering_cases, stablehlo
from benchmarks.lowering_cases import FAMILIES
from benchmarks.lowering_checks import Expected, complaints
from benchmarks.lowering_training import Training
from benchmarks.stablehlo import PLATFORMS, Facts, lower
from dst_jax import corruptions, models, sparsity
from dst_jax.data import benchmarks
from dst_jax.models.convolution import convolve
from dst_jax.runtime.devices import Devices

# Of the update steps of every algorithm on a small network, those of the paper's families.
ALGORITHMS = ("rigl", "set", "mest_g", "granet_g", "topkast", "iterative_nm")
SAMPLED = {
    "step, granet_g, resnet20, resident": lambda line: "ordinary" in line or "update" in line,
    "step, granet_g, resnet20, stream": lambda line: "update" in line and "bfloat16" in line,
    "step, rigl, ": lambda line: (
        line.split(", ")[2] in FAMILIES and "ordinary" in line and "bfloat16" in line
    ),
    ", mlp, ": lambda line: line.split(", ")[1] in ALGORITHMS and "float32" in line,
    "step, granet_g, ": lambda line: "update" in line and "bfloat16" in line,
    "prediction, ": lambda line: line.split(", ")[1] in FAMILIES and "bfloat16" in line,
    "rendering, ": lambda line: True,
}


def is_sampled(line):
    """Whether a case is run by `make test`, too."""
    return next(rule(line) for words, rule in SAMPLED.items() if words in line)


HERE = {str(case): case for case in lowering_cases.cases() if "8 devices" not in str(case)}


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=() if is_sampled(line) else pytest.mark.full) for line in HERE],
)
def test_program_lowers(line):
    found, checked = HERE[line].lower()
    assert set(found) == {"cuda", "tpu"}
    assert len(checked) >= 2
    assert not any(found.values()), found


def test_programs_for_eight_devices():
    """In a process of its own: the tests have four."""
    command = [sys.executable, "-m", "benchmarks.lowering", "--only", "bfloat16", "8 devices"]
    done = subprocess.run(
        [*command, "update step", "resident"], cwd=runs.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "| yes | yes |" in line]
    assert len(lines) == 2
    assert ["jit" in line or "pmap" in line for line in lines] == [True, True]


def test_the_list_is_complete():
    lines = list(HERE)
    for model in models.MODELS:
        assert f"update step, rigl, {model}, bfloat16, jit, 4 devices" in lines
    for algorithm in sparsity.all_algorithm_names():
        assert f"update step, {algorithm}, mlp, float32, jit, 4 devices" in lines
    rendered = {
        line.split(", ")[1].removesuffix(" with maps") for line in lines if "rendering" in line
    }
    assert rendered >= corruptions.CORRUPTIONS.keys() | {*benchmarks.VIDEO}
    assert len(benchmarks.COMMON) == 19
    for name in (*benchmarks.COMMON, *corruptions.SUITES["c_bar_cifar"]):
        assert f"rendering, {name}, cifar32, rows over 4 devices" in lines


def found_in(program, *arguments, platform="cuda", **expected):
    """The complaints about a jitted or pmapped program."""
    return complaints(Facts.of(lower(program, arguments, platform)), Expected(**expected))


MATRIX = jnp.ones((4, 4))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_callback_is_refused(platform):
    program = jax.jit(lambda x: jax.pure_callback(np.sin, x, x))
    with pytest.raises(ValueError, match="different from the lowering platform"):
        found_in(program, MATRIX, platform=platform)
    (text,) = found_in(program, MATRIX, platform="cpu")  # as the module would show it
    assert "callback" in text


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_custom_call_that_is_not_on_the_list_is_refused(platform):
    found = found_in(jax.jit(jnp.linalg.qr), MATRIX, platform=platform)
    assert found
    assert all(text.startswith("calls ") for text in found)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("is_jitted", [False, True])
def test_what_a_composite_holds_is_found(platform, is_jitted):
    def of(program):
        inner = jax.jit(program) if is_jitted else program
        return jax.jit(lambda x: lax.composite(inner, "tests.composite")(x) + 1)

    harmless = of(lambda x: x * 2)
    assert "stablehlo.composite" in str(lower(harmless, (MATRIX,), platform))
    assert found_in(harmless, MATRIX, platform=platform, products="bf16") == []
    (text,) = found_in(of(lambda x: x @ x), MATRIX, platform=platform, products="bf16")
    assert text == "dot_general of ('f32', 'f32') 1 times"
    qr = of(lambda x: jnp.linalg.qr(x)[1])
    found = found_in(qr, MATRIX, platform=platform)
    assert found
    assert all(text.startswith("calls ") for text in found)
    with jax.enable_x64(True):
        wide = of(lambda x: x.astype(jnp.float64).sum().astype(jnp.float32))
        found = found_in(wide, MATRIX, platform=platform)
    assert found
    assert all("float64" in text for text in found)
    rbg = of(lambda x: x + jax.random.uniform(jax.random.key(0, impl="rbg"), (4, 4)))
    found = found_in(rbg, MATRIX, platform=platform)
    assert found == ["stablehlo.rng_bit_generator 1 times"]


def test_names_within_lists_and_dictionaries_are_followed():
    module = lower(jax.jit(lambda x: x), (MATRIX,), "tpu")
    with module.context:
        text = "{a = @x, b = [@y, {c = @z}], d = dense<(2.0, 0.0)> : tensor<complex<f32>>, e = 1}"
        found = list(stablehlo._symbols(stablehlo.ir.Attribute.parse(text)))
    assert found == ["x", "y", "z"]


def test_a_composite_that_is_called_twice_counts_twice():
    square = lax.composite(lambda x: x @ x, "tests.square")
    facts = Facts.of(lower(jax.jit(lambda x: square(square(x))), (MATRIX,), "tpu"))
    assert facts.products.total() == 2


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_ragged_product_is_a_product(platform):
    def operands(dtype):
        return jnp.ones((8, 4), dtype), jnp.ones((2, 4, 4), dtype), jnp.array([3, 5])

    program = jax.jit(lax.ragged_dot)
    narrow, wide = operands(jnp.bfloat16), operands(jnp.float32)
    assert "chlo.ragged_dot" in str(lower(program, wide, platform))
    assert found_in(program, *narrow, platform=platform, products="bf16") == []
    (text,) = found_in(program, *wide, platform=platform, products="bf16")
    assert text == "ragged_dot of ('f32', 'f32') 1 times"
    exact = jax.jit(lambda *of: lax.ragged_dot(*of, precision=lax.Precision.HIGHEST))
    assert found_in(exact, *wide, platform=platform, exact=True) == []
    assert found_in(program, *wide, platform=platform, exact=True) == [
        "ragged_dot in the default precision 1 times"
    ]


def test_a_sum_of_all_before_is_not_refused():
    for platform in PLATFORMS:
        assert found_in(jax.jit(lambda x: lax.cumsum(x)), MATRIX, platform=platform) == []


def test_an_operation_that_is_unknown_is_refused(monkeypatch):
    module = lower(jax.jit(lambda x: lax.erf_inv(x) + lax.top_k(x, 4)[0]), (MATRIX,), "tpu")
    assert complaints(Facts.of(module), Expected()) == []
    known = "chlo.erf_inv %arg0 : tensor<4x4xf32> -> "
    assert known in str(module)
    text = str(module).replace(known, '"other.erf"(%arg0) : (tensor<4x4xf32>) -> ')
    with module.context as context:
        context.allow_unregistered_dialects = True
        other = type(module).parse(text)
    assert complaints(Facts.of(other), Expected()) == ["other.erf 1 times"]
    monkeypatch.setattr(stablehlo, "_KNOWN", stablehlo._KNOWN - {"top_k"})
    assert complaints(Facts.of(module), Expected()) == ["chlo.top_k 1 times"]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_float64_is_refused(platform):
    with jax.enable_x64(True):
        program = jax.jit(lambda x: x.astype(jnp.float64).sum())
        found = found_in(program, MATRIX, platform=platform)
    assert found
    assert all("float64" in text for text in found)


def test_random_bits_of_the_platform_are_refused():
    def draw(key):
        return jax.random.uniform(key, (3,))

    keys = {name: jax.random.key(0, impl=name) for name in ("threefry2x32", "rbg")}
    assert found_in(jax.jit(draw), keys["threefry2x32"]) == []
    assert found_in(jax.jit(draw), keys["rbg"]) == ["stablehlo.rng_bit_generator 1 times"]


@pytest.mark.parametrize("wide", [0, 1])
def test_a_product_of_another_type_is_refused(wide):
    operands = [MATRIX.astype(jnp.bfloat16)] * 2
    assert found_in(jax.jit(jnp.dot), *operands, products="bf16") == []
    operands[wide] = MATRIX
    program = jax.jit(lambda x, y: lax.dot(x, y, preferred_element_type=jnp.float32))
    (text,) = found_in(program, *operands, products="bf16")
    assert text.startswith("dot_general of ")
    assert "f32" in text
    (text,) = found_in(program, *operands, products="bf16", exact_input=True)
    assert text.startswith("dot_general of ")


def test_a_product_in_lower_precision_is_refused():
    exact = jax.jit(lambda x: jnp.matmul(x, x, precision="highest"))
    assert found_in(exact, MATRIX, exact=True) == []
    assert found_in(jax.jit(lambda x: x @ x), MATRIX, exact=True) == [
        "dot_general in the default precision 1 times"
    ]


def test_a_lost_donation_is_refused():
    def step(states):
        return {"w": states["w"] + 1, "m": states["m"] * 2}

    states = {"w": jnp.ones(3), "m": jnp.ones((2, 2))}
    assert found_in(jax.jit(step, donate_argnums=0), states, donated=2) == []
    assert found_in(jax.jit(step), states, donated=2) == [
        "states['m'] is not donated",
        "states['w'] is not donated",
    ]

    def narrow(states):
        return {"w": states["w"].astype(jnp.bfloat16), "m": states["m"]}

    (text,) = found_in(jax.jit(narrow, donate_argnums=0), states, donated=2)
    assert text.startswith("no result takes 1 tensor<3xf32>")
    both = jax.jit(lambda states, feed: (states, feed), donate_argnums=(0, 1))
    assert found_in(both, [jnp.ones(3)], jnp.ones(2), donated=1) == ["feed is donated"]
    renamed = jax.jit(lambda other: other, donate_argnums=0)
    assert "of 1 leaves of the states, 0 are arguments" in found_in(renamed, jnp.ones(3), donated=1)


@pytest.mark.parametrize("parallelism", ["jit", "pmap"])
def test_only_accelerators_are_given_the_states(parallelism):
    training = Training("float32", parallelism, 4, {"model.name": "mlp"})
    program, arguments, expected = training.program("update")
    assert found_in(program, *arguments, donated=expected.donated) == []
    training.devices = Devices(parallelism)
    program, arguments, _ = training.program("update")
    assert not any(Facts.of(lower(program, arguments, "cpu")).donated.values())


@pytest.mark.parametrize(
    ("image", "channels"),
    [((8, 8), 4), ((2, 2), 4), ((8, 8), 1), ((4, 8, 8), 4)],
    ids=["plain", "matrix", "depthwise", "video"],
)
def test_the_form_of_a_cpu_is_refused(image, channels):
    ones = (1,) * len(image)
    x, kernel = jnp.ones((2, *image, 4)), jnp.ones((3,) * len(image) + (channels, 4))

    @jax.jit
    def program(kernel, x):
        def loss(kernel, x):
            y = convolve(x, kernel, ones, ((1, 1),) * len(image))
            return (convolve(y, kernel, ones, ((1, 1),) * len(image)) ** 2).sum()

        return jax.value_and_grad(loss)(kernel, x)

    for platform in PLATFORMS:
        assert found_in(program, kernel, x, platform=platform, convolutions=2) == []
    assert found_in(program, kernel, x, platform="cpu", convolutions=2)
    assert found_in(program, kernel, x, convolutions=3)
    forward = jax.jit(lambda kernel, x: convolve(x, kernel, ones, ((1, 1),) * len(image)))
    assert found_in(forward, kernel, x, convolutions=1, is_trained=False) == []
    assert found_in(program, kernel, x, convolutions=2, is_trained=False)


def test_gradients_that_are_not_averaged_are_refused():
    def mean(x):
        return lax.pmean(x, "data")

    rows = jnp.ones((4, 3))
    assert found_in(jax.pmap(mean, "data"), rows, reductions=1, devices=4) == []
    (text,) = found_in(jax.pmap(lambda x: x), rows, reductions=1)
    assert text == "0 sums over devices, at least 1 expected"
    (text,) = found_in(jax.jit(lambda x: x), rows, rows=True)
    assert text == "no rows laid over the devices"
    assert found_in(jax.pmap(mean, "data"), rows, devices=8) == ["for 4 devices, not 8"]


def test_gradients_of_the_mesh_are_summed_by_the_compiler():
    """The sums of a program over a mesh are not written out before it is compiled."""
    program, arguments, expected = Training("float32", "jit", 4, {"model.name": "mlp"}).program(
        "ordinary"
    )
    assert found_in(program, *arguments, rows=expected.rows) == []
    text = program.lower(*arguments).compile().as_text()
    assert "all-reduce(" in text


def test_a_function_that_is_called_twice_counts_twice():
    inner = jax.jit(lambda x: x @ x)
    facts = Facts.of(lower(jax.jit(lambda x: inner(inner(x))), (MATRIX,), "tpu"))
    assert facts.products.total() == 2
    unused = Facts.of(lower(jax.jit(lambda x: (x @ x, x + 1)[1]), (MATRIX,), "tpu"))
    assert unused.products.total() == 0


def test_a_case_with_complaints_ends_the_program_with_1(capsys, monkeypatch):
    from benchmarks import lowering

    case = lowering_cases.Case(
        "two", "1 device", "", lambda: (jax.jit(lambda x: x @ x), (MATRIX,), Expected(exact=True))
    )
    monkeypatch.setattr(lowering_cases, "cases", lambda: [case])
    monkeypatch.setattr(lowering.jax.config, "update", lambda name, value: None)
    monkeypatch.setattr(sys, "argv", ["lowering"])
    assert lowering.main() == 1
    assert "dot_general in the default precision 1 times" in capsys.readouterr().out
    assert stablehlo.PLATFORMS == ("cuda", "tpu")
