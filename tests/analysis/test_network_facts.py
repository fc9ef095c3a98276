"""The table of a config's network: published counts, densities and FLOPs, without any data."""

import re

from dst_jax import config as config_lib
from dst_jax import experiment
from dst_jax import paths as places_lib


def described(tmp_path, **changes):
    """What `--mode=describe` prints, where there is no data."""
    config = config_lib.default()
    for name, value in changes.items():
        config_lib.set_option(config, name.replace("__", "."), value)
    run_paths = places_lib.RunPaths(tmp_path / "run", str(tmp_path / "none"), tmp_path / "cache")
    text = experiment.run(config, run_paths, mode="describe")
    assert not list(tmp_path.iterdir())
    return text


def rows(text):
    """Path -> the other cells of its row."""
    lines = [line.split("  ") for line in text.splitlines() if "/" in line.split(" ")[0]]
    return {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}


def test_resnet50(tmp_path):
    text = described(
        tmp_path,
        model__name="resnet50",
        data__name="imagenet2012",
        sparsity__algorithm="rigl",
        sparsity__sparsity=0.8,
        sparsity__update_freq="100",
        sparsity__update_end_step="100%",
        sparsity__update_start_step="0",
    )
    table = rows(text)
    # Densities of the published RigL code, of whole numbers of weights: 8,064 of 9,408 are 0.8571.
    assert table["conv1/kernel"] == ["7 x 7 x 3 x 64", "9,408", "yes", "0.8571", "0.2000"]
    assert table["layer1_0/conv1/kernel"][-2:] == ["1.0000", "0.2000"]
    assert table["layer4_2/conv2/kernel"][-2] == "0.0435"
    assert table["layer4_2/conv3/kernel"][-2] == "0.2433"
    assert table["classifier/kernel"][-2] == "0.1482"
    assert table["bn1/scale"] == ["64", "64", "no"]
    assert len(table) == 161
    for line in (
        "resnet50 on imagenet2012: 224 x 224 x 3, 1000 classes",
        "parameters: 25,557,032",
        "maskable: 25,502,912 in 54 layers",
        "active: 5,100,582 of the maskable",
        "8.1895e+09 dense, 0.4146 of it with erk, ",
        "FLOPs of training by rigl with erk: 0.4165 times a dense one",
    ):
        assert line in text


def test_a_dense_run_is_described_at_the_sparsity_of_its_card(tmp_path):
    changes = {"model__name": "mlp", "sparsity__sparsity": 0.5, "sparsity__dist_type": "uniform"}
    text = described(tmp_path, **changes)
    assert "FLOPs of training by dense: as a dense one" in text
    assert "active: 476,300 of the maskable" in text  # half of 952,600


def test_layers_are_in_the_order_of_their_numbers_and_exclusion_counts(tmp_path):
    text = described(
        tmp_path, model__name="deit_small", model__stem="small", sparsity__exclude="patch_embed"
    )
    table = rows(text)
    paths = list(table)
    assert paths.index("blocks_2/attn/qkv/kernel") < paths.index("blocks_10/attn/qkv/kernel")
    assert table["patch_embed/kernel"] == ["4 x 4 x 3 x 384", "18,432", "no"]
    assert "in 49 layers" in text


def test_a_cost_that_depends_on_how_magnitudes_share_the_sparsity_says_so(tmp_path):
    text = described(
        tmp_path, model__name="mlp", sparsity__algorithm="granet_g", sparsity__update_freq="10"
    )
    assert re.search(
        r"FLOPs of training by granet_g with erk: 0\.\d{4} times a dense one, if magnitudes", text
    )


def test_without_maskable_layers(tmp_path):
    text = described(tmp_path, model__name="mlp", sparsity__exclude="kernel")
    assert "maskable: 0 in 0 layers" in text
    assert "1.0000 of it with erk" in text
