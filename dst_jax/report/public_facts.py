"""What a run wrote of itself, without what belongs to the machine: paths, hosts, bucket names.

Versions, hardware, commit, steps and times stay; of a path that is absolute, or leads up out of the
directory, its last part does. A file without any of that stays as it is, byte for byte. Called by
`archive`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

# Of a start of a training; what else a version may write there is left out.
_OF_A_START = (
    *("command", "commit", "versions", "hardware", "deterministic_kernels"),
    *("started", "step", "registered"),
)
# How a path begins that is absolute, /a, ~/a, ~name/a, gs://bucket/a, C:\\a, or leads up, ../a.
_START = r"(?:/|\.\./|~[\w.-]*/|[A-Za-z][\w+.-]*:[/\\])"
_IS_ABSOLUTE = re.compile(_START)
# The same where a word or a value begins, to the end of the word.
_ABSOLUTE = re.compile(rf"(?:(?<=[\s=,:;'\"(\[])|^){_START}[^\s'\",;)\]]+")
_NOT_A_PATH = ("sparsity.exclude", "model.init_fresh")  # options whose text may look like one
_HOSTS = "multihost"


def of_file(name: str, content: bytes) -> bytes:
    """The content of a file of a run directory as it may be published.

    What cannot be read stays unreadable: where it might hold a path, it is emptied.

    Args:
      name: `environment.json`, `config.json` or another file of JSON or of JSON lines.
      content: what it holds.
    """
    if name.endswith(".jsonl"):
        return b"\n".join(of_file("", line).rstrip(b"\n") for line in content.split(b"\n"))
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        text = content.decode("utf-8", errors="replace")
        return b"" if name == "environment.json" or _ABSOLUTE.search(text) else content
    if name == "environment.json":
        found: Any = _environment(value)
    elif name == "config.json":
        found = _config(value)
    else:
        found = _everywhere(value)
    indent = 1 if name else None  # a line stays one
    return content if found == value else (json.dumps(found, indent=indent) + "\n").encode()


def of_command(command: str) -> str:
    """A command line with the last part of each absolute path, and without the names of hosts."""
    pieces = []
    for piece in re.split(r" (?=-)", command):
        flag, _, value = piece.replace(" ", "=", 1).partition("=")
        if flag.strip("-") == _HOSTS:
            piece = f"--{_HOSTS}={value if value == 'auto' else '...'}"
        elif found := _ABSOLUTE.search(piece):  # it may hold spaces: it ends at the next flag
            piece = piece[: found.start()] + _last_part(piece[found.start() :])
        pieces.append(piece)
    return " ".join(pieces)


def of_text(text: str) -> str:
    """A text with the last part of each absolute path in it."""
    return _ABSOLUTE.sub(lambda match: _last_part(match[0]), text)


def _last_part(path: str) -> str:
    return ([part for part in re.split(r"[/\\]+", path) if part] or [""])[-1]


def _environment(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return []  # it is unreadable, and stays so
    found = {key: _everywhere(value[key]) for key in _OF_A_START if key in value}
    if "command" in value:
        found["command"] = _of_words(value["command"])
    if "starts" in value:
        starts = value["starts"]
        found["starts"] = [_environment(s) for s in starts] if isinstance(starts, list) else None
    return found


def _of_words(command: Any) -> Any:
    if isinstance(command, str):
        return of_command(command)
    return [_of_words(word) for word in command] if isinstance(command, list) else None


def _config(value: Any, prefix: str = "") -> Any:
    """A config; its values are whole paths or none."""
    if isinstance(value, Mapping):
        return {key: _config(inner, f"{prefix}.{key}".strip(".")) for key, inner in value.items()}
    if isinstance(value, str) and prefix not in _NOT_A_PATH and _IS_ABSOLUTE.match(value):
        return _last_part(value)
    return value


def _everywhere(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {of_text(str(key)): _everywhere(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_everywhere(inner) for inner in value]
    return of_text(value) if isinstance(value, str) else value
