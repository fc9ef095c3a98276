"""Predict functions as users bring them: which kind each is, what is wrong with it, its digest.

A function that JAX can trace is compiled and runs on the devices. Any other runs on the host, NumPy
in and NumPy out. Called by `networks`, `engine`, `evaluation`, `adapters` and
`analysis.network_facts`.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dst_jax.errors import RunError, UserError, line_of

Predict = Callable[[Any], Any]
_EXPECTED = "a function of images uint8 [B, H, W, 3] -> logits"
# Errors of these are of a function that is JAX's own; but for JAX's at a look at values.
_OF_JAX = ("jax", "jaxlib", "flax", "equinox", "haiku")
_AT_VALUES = (jax.errors.JAXTypeError, jax.errors.JAXIndexError)


@dataclasses.dataclass(frozen=True)
class HostFunction:
    """A predict function that runs on the host, in any framework.

    Attributes:
      function: maps images uint8 [B, H, W, 3], a NumPy array that it may write to, to logits
        [B, classes], floating-point numbers that `numpy.asarray` takes. B is always the same: the
        last batch is filled up.
      weights: gives the arrays that identify the model, in any nesting of lists and dictionaries;
        it is asked when an evaluation begins. None: the model has its answers only.
      takes_jax: whether `function` takes the JAX array itself, where it lies, instead of a copy.
    """

    function: Predict
    weights: Callable[[], Any] | None = None
    takes_jax: bool = False

    def __call__(self, images: Any) -> Any:
        """What `function` gives."""
        return self.function(images)

    def logits(self, images: jax.Array | np.ndarray) -> np.ndarray:
        """The answer of the function, as it gives it."""
        return np.asarray(self.function(images if self.takes_jax else np.array(images)))


class Checked(NamedTuple):
    """A predict function whose kind is known.

    Attributes:
      predict: a `HostFunction` where it runs on the host; else it is JAX's.
      classes: number of logits.
      where: what an error calls it.
      why: the error of JAX that made it a host function; "" where somebody has said so.
    """

    predict: Predict
    classes: int
    where: str = "predict"
    why: str = ""


def check_predict(
    predict: Any,
    shape: tuple[int, ...],
    where: str = "predict",
    on_host: bool | None = None,
    devices: int = 1,
) -> Checked:
    """Finds out which kind of function of images `predict` is, and checks that it gives logits.

    A function of JAX is not run, only traced. Any other is called once, on black images.

    Args:
      predict: what shall be scored.
      shape: [B, H, W, 3] of images, [B, T, H, W, 3] of clips, of one device.
      where: what an error calls it.
      on_host: True: it runs on the host; False: it is JAX's; None: that is found out. It runs on
        the host if JAX cannot trace it, for a reason that such a function has.
      devices: so many times the images are what the host gets.

    Raises:
      UserError: it is no such function.
    """
    if not callable(predict):
        raise UserError(where, f"an object of type {type(predict).__name__}", _EXPECTED)
    declared = isinstance(predict, HostFunction)
    if declared and on_host is False:
        raise UserError(where, "a function of the host", "one of JAX, where on_host is False")
    reason = ""
    error: Exception | None = None
    if not declared and not on_host:
        try:
            logits = jax.eval_shape(lambda x: predict(x), jax.ShapeDtypeStruct(shape, jnp.uint8))
        except UserError:
            raise
        except Exception as found:  # whatever a user-supplied function raises
            kind, _, text = line_of(found).partition(": ")
            reason, error = f"{kind} when called with {list(shape)}: {text}", found
        else:
            check_logits(logits, shape[0], where)
            return Checked(predict, logits.shape[1], where)
        if on_host is False or not _may_be_of_the_host(error):
            raise UserError(where, reason, _EXPECTED) from error
    if jax.process_count() > 1:
        found_text = f"a function of the host in {jax.process_count()} processes"
        raise UserError(where, found_text, "a function of JAX, or one process", reason)
    function = predict if declared else HostFunction(predict)
    images = np.zeros((shape[0] * devices, *shape[1:]), np.uint8)
    try:
        logits = function.logits(jnp.asarray(images) if function.takes_jax else images)
    except (UserError, RunError):
        raise
    except Exception as found:
        on_the_host = f"on the host, with a NumPy array, {line_of(found)}"
        both = f"{reason} (traced by JAX); {on_the_host}" if reason else on_the_host
        raise UserError(where, both, _EXPECTED, _hint(predict)) from found
    check_logits(logits, len(images), where)
    return Checked(function, logits.shape[1], where, line_of(error) if error else "")


def check_logits(logits: Any, count: int, where: str, classes: int = 0) -> None:
    """Refuses what is no logits [B, classes], concrete or abstract.

    Args:
      logits: what a predict function gave.
      count: B.
      where: what an error calls the function.
      classes: how many there must be; 0: any number.

    Raises:
      UserError: it is something else.
    """
    found = jax.tree.map(
        lambda leaf: f"{leaf.dtype} {list(leaf.shape)}" if hasattr(leaf, "dtype") else leaf, logits
    )
    found = f"{found} for {count} images"
    one = isinstance(logits, jax.ShapeDtypeStruct | np.ndarray)
    if not one or logits.ndim != 2 or logits.shape[0] != count:
        raise UserError(where, found, "logits [B, classes]")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise UserError(where, found, "logits, floating-point numbers")
    if classes and logits.shape[1] != classes:
        raise UserError(where, found, f"logits of {classes} classes, as before")


def _may_be_of_the_host(error: Exception) -> bool:
    """Whether a function of NumPy or another framework may raise it when JAX traces it."""
    package = type(error).__module__.partition(".")[0]
    return package not in _OF_JAX or isinstance(error, _AT_VALUES)


def _hint(predict: Any) -> str:
    packages = {kind.__module__.partition(".")[0] for kind in type(predict).__mro__}
    return "Use robustness.torch_predict(module, mean, std)" if "torch" in packages else ""


def digest(tree: Any) -> str:
    """SHA-256 of the arrays and numbers that a pytree holds, in order; "" where it holds none."""
    kinds = (np.ndarray, np.generic, jax.Array, bool, int, float, complex)
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, kinds)]
    if not leaves:
        return ""
    content = hashlib.sha256()
    for leaf in leaves:
        if jax.dtypes.issubdtype(getattr(leaf, "dtype", int), jax.dtypes.prng_key):
            continue  # of dropout, which is off
        leaf = np.asarray(leaf)
        content.update(f"{leaf.dtype}{leaf.shape}".encode())
        content.update(np.ascontiguousarray(leaf).tobytes())
    return content.hexdigest()


def digest_of_module(module: Any) -> str:
    """Digest of what a module of Flax (bound linen, NNX), Equinox or Keras carries, or ""."""
    leaves = jax.tree.leaves(getattr(module, "variables", module))
    return digest([getattr(leaf, "value", leaf) for leaf in leaves])
