"""What the flags of all commands share: those of options, lists, and one line for what is wrong.

Called by `cli`, which has the flags of runs, and `subcommands`, which has those of `corrupt` and
`compare`.
"""

import re
from typing import Any

from absl import flags

from dst_jax.config.options import OPTIONS, Option
from dst_jax.errors import UserError

flags.disclaim_key_flags()  # a flag belongs to the file that asks for it, whose help lists it


def of_option(
    name: str, flag: str, meaning: str, flag_values: flags.FlagValues = flags.FLAGS
) -> flags.FlagHolder:
    """Defines the flag of an option, of the option's own kind; without a value it is None.

    Args:
      name: of the option, as "eval.seed".
      flag: the flag's name.
      meaning: the text of the help.
      flag_values: of which command it is.
    """
    option: Option = OPTIONS[name]
    of: Any = {"flag_values": flag_values}
    if option.choices:
        return flags.DEFINE_enum(flag, None, option.choices, meaning, **of)
    if isinstance(option.default, bool):
        return flags.DEFINE_bool(flag, None, meaning, **of)
    if isinstance(option.default, int):
        low, high = (None if end is None else int(end) for end in (option.low, option.high))
        return flags.DEFINE_integer(flag, None, meaning, low, high, **of)
    if isinstance(option.default, float):
        return flags.DEFINE_float(flag, None, meaning, option.low, option.high, **of)
    if isinstance(option.default, tuple):
        return flags.DEFINE_list(flag, None, meaning, **of)
    return flags.DEFINE_string(flag, None, meaning, **of)


def of_files(meaning: str, flag_values: flags.FlagValues = flags.FLAGS) -> flags.FlagHolder:
    """Defines `--import`, which may be given more than once; `files_of` reads it."""
    return flags.DEFINE_multi_string("import", [], meaning, flag_values=flag_values)


def files_of(holder: flags.FlagHolder) -> list[str]:
    """The names of all `--import`, of which each may be a list with commas, each name once."""
    names = (name.strip() for text in holder.value for name in text.split(","))
    return list(dict.fromkeys(filter(None, names)))


def number(text: str) -> int | str:
    """A part of a list: severities are numbers, corruptions are not."""
    return int(text) if text.strip().isdecimal() else text.strip()


def usage_error(error: Exception) -> UserError:
    """Turns what absl and ml_collections say of a wrong flag into our one line."""
    # A KeyError shows its text as a repr, with quotes and backslashes of its own.
    lone_key = isinstance(error, KeyError) and error.args
    text = str(error.args[0] if lone_key else error)
    if lone := re.search(r"Unknown command line flag '(config\.[\w.]+)'", text):
        hint = "For runs on disk the options of config.eval have flags of their own, as --suite"
        return UserError(f"--{lone[1]}", "no --config", "a card whose option it changes", hint)
    if meant := re.search(r'Did you mean "(.+)" instead of "(.+)"', text):
        return UserError("config", f"no field {meant[2]}", meant[1])
    if flag := re.search(r"flag --([\w.]+)=(.*?): (.*)", text, re.DOTALL):
        name = flag[1].removeprefix("config.")
        if fields := [option for option in OPTIONS if option.startswith(f"{name}.")]:
            listed = ", ".join(f"--config.{field}" for field in fields)
            return UserError(f"--{flag[1]}", flag[2], f"a field of that section: {listed}")
        option = OPTIONS.get(name, OPTIONS.get(f"eval.{name.removeprefix('eval_')}"))
        return UserError(f"--{flag[1]}", flag[2], option.expected() if option else flag[3])
    return UserError("command line", text, "flags as --help lists them")
