"""`dst-jax --mode=evaluate --predict=MODULE:ATTRIBUTE`: scores a function that is named in words.

Finds the function, has `evaluate` do the work, and says where the files lie. For people without our
training loop. Called by `experiment`.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dst_jax import user_files
from dst_jax.errors import RunError, UserError, line_of
from dst_jax.robustness import storage
from dst_jax.robustness.evaluation import evaluate
from dst_jax.robustness.result import Result
from dst_jax.runtime.devices import is_main_process
from dst_jax.runtime.interrupt import InterruptedRunError
from dst_jax.runtime.run_dir import write_text

_EXPECTED = (
    "MODULE:ATTRIBUTE, as in my_module:make_predict or path/to/file.py:predict; the attribute is "
    "predict(images) itself, or a function without arguments that gives it"
)


def run(
    predict: str, dataset: Any, workdir: Path, data_dir: str | None, cache_dir: Path, **options: Any
) -> str:
    """Scores the function and draws its figure.

    Args:
      predict: "MODULE:ATTRIBUTE", see `load_predict`.
      dataset: as `evaluate` takes it.
      workdir: where the files go; a second call with the same function goes on there.
      data_dir: where TFDS datasets are prepared; None: TFDS's own default.
      cache_dir: where decoded arrays are cached.
      **options: further arguments of `evaluate`.

    Returns:
      Where the files are, and the table.

    Raises:
      UserError, RunError, InterruptedRunError: see `evaluate`.
    """
    if (workdir / "config.json").exists():
        raise UserError(
            f"--workdir={workdir}",
            "a run directory",
            "a directory for the scores of another model",
            "To score the run itself leave out --predict",
        )
    result = evaluate(
        load_predict(predict),
        dataset,
        path=workdir,
        data_dir=data_dir,
        cache_dir=cache_dir,
        prefix="--",
        **options,
    )
    figure = workdir / "figures" / f"{_slug('-'.join(map(str, result.setting)))}.svg"
    if is_main_process():
        _draw(result, figure)
    files = f"{workdir / storage.CSV}, {storage.NPZ}, {storage.JSON}"
    return f"scores: {files}\nfigure: {figure}\n\n{result.table()}"


def load_predict(text: str) -> Callable:
    """The function that "MODULE:ATTRIBUTE" names.

    The module is looked for in the current directory first; a path that ends in .py is read from
    there. An attribute that needs no argument is called and gives the function; one that takes an
    argument is the function.

    Raises:
      UserError: there is no such module or attribute, or it is no function.
    """
    module_name, colon, attribute = text.rpartition(":")
    if not colon or not module_name or not attribute:
        raise UserError("--predict", text, _EXPECTED)
    module = user_files.load(module_name, "--predict", _EXPECTED)
    try:
        found: Any = module
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError:
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UserError(
            "--predict",
            f"no {attribute} in {module_name}",
            f"one of its functions ({', '.join(known[:12]) or 'it has none'})",
        ) from None
    if not callable(found):
        raise UserError("--predict", f"{attribute} of type {type(found).__name__}", _EXPECTED)
    if not _needs_argument(found):
        try:
            found = found()
        except (UserError, RunError, InterruptedRunError):
            raise
        except Exception as error:  # whatever a user-supplied function raises
            raise UserError(
                "--predict", f"{attribute}() fails: {line_of(error)}", "a function"
            ) from error
        if not callable(found):
            raise UserError(
                "--predict", f"{attribute}() gives a {type(found).__name__}", "a function of images"
            )
    return found


def _needs_argument(function: Callable) -> bool:
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(function).parameters
    except (TypeError, ValueError):  # compiled functions may not tell
        return True
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        p.kind is inspect.Parameter.VAR_POSITIONAL or (p.kind in kinds and p.default is p.empty)
        for p in parameters.values()
    )


def _draw(result: Result, path: Path) -> None:
    import io

    text = io.StringIO()
    result.plot_corruptions().savefig(text, format="svg", metadata={"Date": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_+]+", "-", text.lower()).strip("-")[:150]
