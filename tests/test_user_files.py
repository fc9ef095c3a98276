"""What tells the scores of an edited corruption apart, where no file registered it."""

import linecache

import pytest

from dst_jax import corruptions, user_files
from dst_jax.corruptions import registry


@pytest.fixture
def cell():
    """Registers the corruption `dim` as a notebook's cell does, and takes it out again."""

    def run(factor, rows=(1.0, 2.0, 3.0, 4.0, 5.0)):
        source = f"def apply(image, draws, constants):\n    return image * {factor}\n"
        name = f"<cell of {factor}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        scope = {"corruptions": corruptions, "rows": rows}
        exec(compile(source, name, "exec"), scope)
        register = (
            "corruptions.register_corruption(corruptions.Corruption('dim', 'own', "
            "corruptions.columns('s'), apply, corruptions.no_draw), rows=rows)"
        )
        exec(compile(register, "<cell>", "exec"), scope)
        return user_files.mark_of_corruption("dim")

    yield run
    for names in (registry.CORRUPTIONS, registry.ROWS, registry.REGISTERED_IN):
        names.pop("dim", None)


def test_an_edited_cell_has_another_mark_and_the_same_cell_the_same(cell):
    first = cell(0.5)
    assert len(first) == 8
    assert cell(0.6) != first
    assert cell(0.5, rows=(1.0, 2.0, 3.0, 4.0, 6.0)) != first
    assert cell(0.5) == first
