"""Prepares a dataset that TFDS lacks: `python -m dst_jax.data.prepare NAME --source=PATH`.

The files must be downloaded before; `--help` says which. Every config is a step of its own: what is
prepared stays, and the same command continues where it stopped.
"""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from dst_jax.data import prepared
from dst_jax.data.builders import BUILDERS, Published
from dst_jax.data.builders.archive import Archive, open_archive
from dst_jax.data.builders.published import CorruptionConfig
from dst_jax.errors import UserError


def prepare(
    name: str,
    source: os.PathLike | str,
    data_dir: os.PathLike | str | None = None,
    *,
    only: Sequence[str] = (),
) -> list[str]:
    """Writes a dataset in TFDS's layout, without what is there already.

    Args:
      name: a name in `builders.BUILDERS`.
      source: the published files: a folder, a tar or a zip, which is read and never unpacked.
      data_dir: TFDS directory to write to; None: TFDS's default.
      only: which configs, `fog_3` or `32x32`, or corruptions, `fog`; empty: all.

    Returns:
      The full names, `name/config`, of all that was asked for.

    Raises:
      UserError: the files are not the published ones, or not whole; an unknown name.
    """
    if name not in BUILDERS:
        raise UserError("dataset", name, f"one of {', '.join(BUILDERS)}")
    builder_class = BUILDERS[name]
    configs = _chosen(builder_class, only)
    target = os.fspath(prepared.tfds_dir(data_dir))
    archive = open_archive(source)
    builder_class.check(archive, configs)
    if builder_class.FILE_FORMAT == "tfrecord":
        prepared.tensorflow(f"preparing {name}")
    for number, config in enumerate(configs, 1):
        text = f"preparing {name}/{config.name} ({number} of {len(configs)})"
        print(text, file=sys.stderr, flush=True)
        _write(builder_class, archive, config, target)
    return [f"{name}/{config.name}" for config in configs]


def _chosen(builder_class: type[Published], only: Sequence[str]) -> list[Any]:
    """The configs that are asked for, in the builder's order."""
    configs = builder_class.BUILDER_CONFIGS
    # A condition goes by our name and, where TFDS has another, by that too.
    aliases = [
        {config.name, config.corruption, f"{config.corruption}_{config.severity}"}
        if isinstance(config, CorruptionConfig)
        else {config.name}
        for config in configs
    ]
    for wanted in only:
        if not any(wanted in names for names in aliases):
            known = dict.fromkeys(getattr(config, "corruption", config.name) for config in configs)
            raise UserError("--only", wanted, f"among {', '.join(known)}")
    wanted_names = set(only)
    return [
        config
        for config, names in zip(configs, aliases, strict=True)
        if not only or names & wanted_names
    ]


def _write(builder_class: type[Published], source: Archive, config: Any, data_dir: str) -> None:
    """Writes one config; TFDS renames it into its place when it is whole."""
    # TFDS announces a download on standard output and draws progress bars on standard error.
    silent = io.StringIO()
    try:
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            builder = builder_class(
                source=source,
                data_dir=data_dir,
                config=config,
                file_format=builder_class.FILE_FORMAT,
            )
            if not builder.data_path.exists():
                builder.download_and_prepare()
    except OSError as error:
        raise UserError(
            "--data_dir", f"{data_dir} ({error})", "a directory that can be written"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0: done, 2: a usage error, in one line."""
    parser = argparse.ArgumentParser(
        prog="python -m dst_jax.data.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="what to download:\n"
        + "\n".join(f"  {name}: {builder.DOWNLOAD}" for name, builder in BUILDERS.items()),
    )
    parser.add_argument("name", metavar="NAME", help="one of the names below")
    parser.add_argument("--source", required=True, help="the downloaded folder, tar or zip")
    parser.add_argument("--data_dir", help="TFDS directory; default: ~/tensorflow_datasets")
    parser.add_argument(
        "--only", default="", help="corruptions or configs, as in fog,snow_3; default: all"
    )
    options = parser.parse_args(arguments)
    only = [name for name in options.only.split(",") if name]
    try:
        done = prepare(options.name, options.source, options.data_dir, only=only)
    except UserError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    names = done[0] if len(done) == 1 else f"{done[0]} to {done[-1]} ({len(done)})"
    print(f"prepared: {names} in {prepared.tfds_dir(options.data_dir)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
