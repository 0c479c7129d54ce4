from __future__ import annotations

import json
from pathlib import Path

import golden
import pytest
from sam3_export.architecture import Architecture
from sam3_export.errors import ExportError


def test_the_defaults_are_sam3s() -> None:
    assert Architecture().grid_size == 72
    assert Architecture().low_res_size == 288


def test_a_model_gives_the_sizes_it_was_built_with() -> None:
    architecture = Architecture.from_json(golden.CONFIG)
    assert architecture.image_size == 336
    assert Architecture.of_model(architecture.build()) == architecture


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "not a JSON file"),
        ("[]", "expected a JSON object"),
        ('{"image_sise": 336}', "unknown key image_sise"),
        ('{"image_size": "large"}', "image_size must be a positive integer, not 'large'"),
        ('{"hidden_size": -1}', "hidden_size must be a positive integer"),
        ('{"image_size": 337}', r"image_size \(337\) must be a multiple of patch_size \(14\)"),
        ('{"hidden_size": 100}', "must be a multiple of num_attention_heads"),
        ('{"num_hidden_layers": 4}', "layer numbers below 4"),
        ('{"global_attn_indexes": 3}', "not iterable"),
        ('{"layer_norm_eps": 0}', "layer_norm_eps must be a positive number"),
    ],
)
def test_a_bad_config_is_reported(content: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ExportError, match=fault) as caught:
        Architecture.from_json(path)
    assert str(path) in str(caught.value)


def test_a_missing_config_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="none.json: No such file"):
        Architecture.from_json(tmp_path / "none.json")


def test_the_goldens_config_is_the_one_beside_it() -> None:
    assert json.loads(golden.CONFIG.read_text()) == golden.document()["config"]
