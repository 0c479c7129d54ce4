from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import torch
from sam3_export import checkpoint, sam3_layout
from sam3_export.architecture import Architecture
from sam3_export.artifacts import run_module
from sam3_export.components import click_prompts, image_encoder, mask_decoder, pictures
from sam3_export.errors import ExportError
from torch import nn

Tensors = dict[str, torch.Tensor]
RELEASE_31: Tensors = torch.load(golden.CHECKPOINT_31, weights_only=True, mmap=True)
# What Meta's predictor loads for clicks, by SAM 3.1's own names; the rest of the file belongs to other tasks.
NECK_31 = "detector.backbone.vision_backbone.interactive_convs."
CLICK_PATH_31 = [
    key for key in RELEASE_31 if "interactiv" in key or (".trunk." in key and not key.endswith("freqs_cis"))
]


@pytest.fixture
def altered(tmp_path: Path) -> Callable[[Callable[[Tensors], Any]], Path]:
    """Saves the golden checkpoint with a change."""

    def save(change: Callable[[Tensors], Any]) -> Path:
        content = torch.load(golden.CHECKPOINT, weights_only=True)
        change(content["model"])
        path = tmp_path / "altered.pt"
        torch.save(content, path)
        return path

    return save


def test_every_tensor_of_the_network_comes_from_the_file() -> None:
    loaded = checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)
    source = torch.load(golden.CHECKPOINT, weights_only=True)["model"]
    state = loaded.model.state_dict()
    layer = "vision_encoder.backbone.layers.2."
    fused = source["detector.backbone.vision_backbone.trunk.blocks.2.attn.qkv.weight"].float()
    for start, part in ((0, "q"), (96, "k"), (192, "v")):
        torch.testing.assert_close(state[f"{layer}attention.{part}_proj.weight"], fused[start : start + 96])
    points = [source[f"tracker.sam_prompt_encoder.point_embeddings.{label}.weight"] for label in range(4)]
    torch.testing.assert_close(state["prompt_encoder.point_embed.weight"], torch.cat(points).float())
    positions = source["detector.backbone.vision_backbone.trunk.pos_embed"]
    torch.testing.assert_close(
        state["vision_encoder.backbone.embeddings.position_embeddings"], positions[:, 1:].float()
    )
    assert loaded.release == "SAM 3"
    assert loaded.sigmoid_scores
    head = source["tracker.sam_mask_decoder.iou_prediction_head.layers.1.weight"]
    torch.testing.assert_close(state["mask_decoder.iou_prediction_head.layers.0.weight"], head.float())
    assert loaded.sha256 == "3062c69314c70a117758e880a06bee6e9fa24ce45097171d91627d7736d2d53a"


def test_a_checkpoint_without_the_wrapper_loads(tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    torch.save(torch.load(golden.CHECKPOINT, weights_only=True)["model"], path)
    assert checkpoint.load(str(path), golden.CONFIG).architecture.image_size == 336


@pytest.mark.parametrize("wrapped", [True, False])
def test_release_31_is_recognised(wrapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "release.pt"
    torch.save({"model": dict(RELEASE_31)} if wrapped else dict(RELEASE_31), path)
    loaded = checkpoint.load(str(path), golden.CONFIG)
    assert loaded.release == "SAM 3.1"
    assert not loaded.sigmoid_scores
    state = loaded.model.state_dict()
    for key, source in (
        ("mask_decoder.mask_tokens.weight", "tracker.model.interactive_sam_mask_decoder.mask_tokens.weight"),
        ("vision_encoder.neck.fpn_layers.1.proj1.weight", f"{NECK_31}1.conv_1x1.weight"),
        ("no_memory_embedding", "tracker.model.interactivity_no_mem_embed"),
        (
            "shared_image_embedding.positional_embedding",
            "tracker.model.interactive_sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        ),
    ):
        torch.testing.assert_close(state[key], RELEASE_31[source].float())


@pytest.fixture(scope="module")
def parameters() -> Tensors:
    return Architecture.from_json(golden.CONFIG).build().state_dict()


@pytest.mark.parametrize("key", CLICK_PATH_31)
def test_every_tensor_of_release_31s_click_path_is_needed(key: str, parameters: Tensors) -> None:
    def read(tensors: Tensors) -> None:
        checkpoint._state(Path("file.pt"), tensors, sam3_layout.SAM31, parameters)

    assert sam3_layout.recognise(RELEASE_31.keys() - {key}) is sam3_layout.SAM31
    with pytest.raises(ExportError, match=rf"^file.pt: lacks the key {re.escape(key)}; expected the layout of sam3.1_"):
        read({name: tensor for name, tensor in RELEASE_31.items() if name != key})
    with pytest.raises(ExportError, match=rf"^file.pt: .*{re.escape(key)}.* (has the wrong shape|cannot be read)"):
        read({**RELEASE_31, key: RELEASE_31[key][..., None]})


def test_the_click_path_of_release_31_is_what_is_read(parameters: Tensors) -> None:
    names = {name for key in parameters for name in sam3_layout.metas_names(key, sam3_layout.SAM31)}
    assert names == set(CLICK_PATH_31)


def test_release_31s_video_path_is_not_taken_for_the_click_path(tmp_path: Path) -> None:
    decoys = {name: tensor for name, tensor in RELEASE_31.items() if name not in CLICK_PATH_31 or ".trunk." in name}
    assert "tracker.model.sam_mask_decoder.mask_tokens.weight" in decoys
    assert "tracker.model.image_pe_layer.positional_encoding_gaussian_matrix" in decoys
    path = tmp_path / "decoys.pt"
    torch.save(decoys, path)
    with pytest.raises(ExportError, match=r"lacks the key detector.*interactive_convs.0.conv_1x1.bias and \d+ more"):
        checkpoint.load(str(path), golden.CONFIG)


def test_releases_with_the_same_weights_differ_in_the_sigmoid_alone(tmp_path: Path) -> None:
    original = checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)
    path = tmp_path / "renamed.pt"
    torch.save(sam3_layout.write(original.model.state_dict(), sam3_layout.SAM31), path)
    renamed = checkpoint.load(str(path), golden.CONFIG)
    assert renamed.release == "SAM 3.1"
    architecture = original.architecture
    pixels = pictures.pixels(architecture, click_prompts.EXPORT_PROMPT.batch, 5)
    prompts = click_prompts.prompts(architecture, click_prompts.EXPORT_PROMPT, 5)
    answers = []
    for loaded in (original, renamed):
        encoder, decoder = image_encoder.COMPONENT.module(loaded), mask_decoder.COMPONENT.module(loaded)
        features = run_module(encoder.eval(), image_encoder.spec(architecture), pixels)
        answers.append(run_module(decoder.eval(), mask_decoder.spec(architecture), {**features, **prompts}))
    np.testing.assert_array_equal(answers[0]["MASK_LOGITS"], answers[1]["MASK_LOGITS"])
    scores = torch.from_numpy(answers[1]["SCORES"])
    np.testing.assert_array_equal(answers[0]["SCORES"], scores.sigmoid().numpy())
    assert not torch.equal(scores, scores.sigmoid())


def test_a_transformers_directory_gives_the_same_network(tmp_path: Path) -> None:
    original = checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)
    original.model.save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    assert '"layer_norm_eps": 1e-05' in config
    # As transformers' own conversion writes it: with an epsilon that is not Meta's.
    (tmp_path / "config.json").write_text(config.replace('"layer_norm_eps": 1e-05', '"layer_norm_eps": 1e-06'))
    loaded = checkpoint.load(str(tmp_path))
    assert loaded.architecture == original.architecture
    assert (loaded.release, loaded.sigmoid_scores) == ("SAM 3", True)
    for key, tensor in original.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[key], tensor)
    norms = [module for module in loaded.model.vision_encoder.backbone.modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}


def test_the_layout_of_the_hubs_checkpoint_loads(tmp_path: Path) -> None:
    # facebook/sam3 holds the video model: the backbone under the detector, the tracker's neck beside it.
    from safetensors.torch import save_file

    original = checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)
    prefixes = {
        "vision_encoder.backbone.": "detector_model.vision_encoder.backbone.",
        "vision_encoder.neck.": "tracker_neck.",
    }
    tensors = {"detector_model.text_projection.weight": torch.zeros(2, 2)}
    for key, tensor in original.model.state_dict().items():
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        tensors[prefixes.get(prefix, "tracker_model.") + key.removeprefix(prefix)] = tensor.clone()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    config = {"model_type": "sam3_video", "tracker_config": original.model.config.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = checkpoint.load(str(tmp_path))
    assert loaded.architecture == original.architecture
    for key, tensor in original.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[key], tensor)


def test_a_directory_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG).model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[next(key for key in weights if key.endswith("mask_decoder.iou_token.weight"))]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match=r"lacks the key mask_decoder.iou_token.weight"):
        checkpoint.load(str(tmp_path))


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no \\*.safetensors"):
        checkpoint.load(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ExportError, match="not a transformers checkpoint of SAM 3"):
        checkpoint.load(str(tmp_path))


def test_a_missing_key_is_named(altered: Callable) -> None:
    path = altered(lambda tensors: tensors.pop("tracker.no_mem_embed"))
    with pytest.raises(ExportError, match=r"altered.pt: lacks the key tracker.no_mem_embed; expected the layout"):
        checkpoint.load(str(path), golden.CONFIG)


def test_several_missing_keys_are_counted(altered: Callable) -> None:
    def remove(tensors: Tensors) -> None:
        for key in [key for key in tensors if "blocks.1.attn.qkv" in key]:
            del tensors[key]

    with pytest.raises(ExportError, match=r"blocks.1.attn.qkv.bias and 1 more"):
        checkpoint.load(str(altered(remove)), golden.CONFIG)


def test_a_wrong_shape_is_named(altered: Callable) -> None:
    path = altered(lambda tensors: tensors.update({"tracker.sam_mask_decoder.iou_token.weight": torch.zeros(2, 256)}))
    with pytest.raises(ExportError, match=r"iou_token.weight.*\(2, 256\).*\(1, 256\)"):
        checkpoint.load(str(path), golden.CONFIG)


def test_a_tensor_that_cannot_be_split_is_named(altered: Callable) -> None:
    key = "detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight"
    path = altered(lambda tensors: tensors.update({key: torch.zeros(2)}))
    with pytest.raises(ExportError, match=r"altered.pt: .*blocks.0.attn.qkv.weight"):
        checkpoint.load(str(path), golden.CONFIG)


def test_sizes_that_do_not_fit_point_to_config(tmp_path: Path) -> None:
    small = tmp_path / "small.json"
    small.write_text(golden.CONFIG.read_text().replace('"hidden_size": 96', '"hidden_size": 48'))
    with pytest.raises(ExportError, match="--config"):
        checkpoint.load(str(golden.CHECKPOINT), small)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 a broken zip"])
def test_a_file_that_is_not_a_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    with pytest.raises(ExportError, match="broken.pt: not a PyTorch checkpoint"):
        checkpoint.load(str(path), golden.CONFIG)


def test_a_pickle_with_code_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.pt"
    torch.save({"model": Path("a class that is no tensor")}, path)
    with pytest.raises(ExportError, match="code.pt: not a PyTorch checkpoint of plain tensors"):
        checkpoint.load(str(path), golden.CONFIG)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.pt"
    torch.save([1, 2], path)
    with pytest.raises(ExportError, match="holds a list"):
        checkpoint.load(str(path), golden.CONFIG)


@pytest.mark.parametrize("content", [{}, {"model": {"image_encoder.neck.0.weight": torch.zeros(1)}}])
def test_a_file_of_neither_release_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    expected = (
        r"other.pt: not a checkpoint of SAM 3 or SAM 3.1; no key begins with .*interactive_convs. or tracker.model. "
    )
    with pytest.raises(ExportError, match=expected + r"\(SAM 3.1\) or .*sam2_convs. or tracker. \(SAM 3\)$"):
        checkpoint.load(str(path), golden.CONFIG)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({3: torch.zeros(1)}, "a dictionary with the key 3"),
        ({"tracker.no_mem_embed": 3}, "no_mem_embed cannot be read"),
    ],
)
def test_a_file_with_something_else_in_it_is_refused(content: dict[Any, Any], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(ExportError, match=reason):
        checkpoint.load(str(path), golden.CONFIG)


def test_a_file_that_does_not_exist_is_reported() -> None:
    with pytest.raises(ExportError, match="nowhere/sam3.pt: no such file or directory"):
        checkpoint.load("nowhere/sam3.pt")
