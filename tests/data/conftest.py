"""What the tests of the builders share."""

import re

import pytest

from dst_jax.data import prepare


@pytest.fixture
def refused(capsys, tmp_path):
    """A function: the command ends with one clear line and leaves nothing prepared."""

    def check(name, source, text, only=""):
        target = tmp_path / "refused"
        arguments = [name, f"--source={source}", f"--data_dir={target}", f"--only={only}"]
        assert prepare.main(arguments) == 2
        output, errors = capsys.readouterr()
        *progress, line = errors.splitlines()
        assert output == ""
        assert all(earlier.startswith(f"preparing {name}/") for earlier in progress), errors
        assert line.startswith(f"prepare: --source={source}: found "), line
        assert re.search(text, line), line
        assert not list(target.rglob("dataset_info.json"))

    return check
