"""The network of the concept half: Meta's answers from its weights, and every rule that keeps them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import golden
import golden_concepts
import numpy as np
import pytest
import torch
from golden_concepts import ConceptCase
from image_preprocess import decode, to_network_pixels
from sam3_export import checkpoint, concept_layout
from sam3_export.architecture import Architecture
from sam3_export.artifacts import run_module
from sam3_export.checkpoint import Checkpoint
from sam3_export.cli import main
from sam3_export.components import concept_detector, image_encoder, text_encoder
from sam3_export.components.box_examples import EMPTY, BoxExamples
from sam3_export.concept_architecture import ConceptArchitecture
from sam3_export.errors import ExportError
from sam3_export.spec import Arrays

CASES = golden_concepts.cases()


@pytest.fixture(scope="module")
def loaded() -> Checkpoint:
    return checkpoint.load(str(golden_concepts.CHECKPOINT), golden_concepts.CONFIG)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    content = torch.load(golden_concepts.CHECKPOINT, weights_only=True)
    return content.get("model", content)


class Modules:
    """The PyTorch modules; features of photos are computed once."""

    def __init__(self, loaded: Checkpoint) -> None:
        self.sizes = loaded.architecture
        self._encoder, self._texts, self._detector = (
            (component.module(loaded).eval(), component.spec(loaded.architecture))
            for component in (image_encoder.COMPONENT, text_encoder.COMPONENT, concept_detector.COMPONENT)
        )
        self._features: dict[Path, np.ndarray] = {}

    def text(self, tokens: np.ndarray) -> np.ndarray:
        return run_module(*self._texts, {"TOKENS": tokens.astype(np.int32)[None]})["TEXT_FEATURES"]

    def features(self, photo: Path) -> np.ndarray:
        if photo not in self._features:
            pixels = to_network_pixels(decode(photo.read_bytes()), self.sizes.image_size).copy()
            self._features[photo] = run_module(*self._encoder, {"PIXELS": pixels})["BACKBONE_FEATURES"]
        return self._features[photo]

    def inputs(self, case: ConceptCase, slots: int) -> Arrays:
        """The detector's inputs for a case, with its boxes in that many slots, for all queries."""
        tokens = golden_concepts.tokens()[case.text or "visual"]
        boxes, labels = np.zeros((1, slots, 4), np.float32), np.full((1, slots), EMPTY, np.int32)
        for index, (x0, y0, x1, y1) in enumerate(case.boxes):
            height, width = case.size
            boxes[0, index] = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height
            labels[0, index] = case.box_labels[index]
        return {
            "BACKBONE_FEATURES": self.features(case.photo),
            "TEXT_FEATURES": self.text(tokens),
            "TEXT_MASK": (tokens != 0)[None],
            "BOX_COORDS": boxes,
            "BOX_LABELS": labels,
            "RANKS": np.arange(20, dtype=np.int32)[None],
        }

    def detect(self, inputs: Arrays) -> Arrays:
        return run_module(*self._detector, inputs)


@pytest.fixture(scope="module")
def modules(loaded: Checkpoint) -> Modules:
    return Modules(loaded)


@pytest.mark.parametrize("text", golden_concepts.tokens(), ids=lambda text: text[:20])
def test_texts_have_metas_features(text: str, modules: Modules) -> None:
    with np.load(golden_concepts.FOLDER / "reference.npz") as reference:
        number = list(golden_concepts.tokens()).index(text)
        expected = reference[f"text_{number}/features"]
    np.testing.assert_allclose(modules.text(golden_concepts.tokens()[text])[0], expected, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_raw_answer_is_metas(case: ConceptCase, modules: Modules) -> None:
    with np.load(golden_concepts.FOLDER / "reference.npz") as reference:
        logits, presence, boxes = (
            reference[f"{case.name}/{name}"] for name in ("pred_logits", "presence_logit", "pred_boxes")
        )
        some_masks = reference[f"{case.name}/pred_masks"].astype(np.float32)  # of every fourth query
    answer = modules.detect(modules.inputs(case, 8))
    scores = 1 / (1 + np.exp(-logits)) / (1 + np.exp(-presence))
    # chelsea_tall.png is the one photo where Pillow's resize differs visibly from Meta's.
    np.testing.assert_allclose(answer["SCORES"][0], np.sort(scores)[::-1], atol=2e-3)
    assert abs(answer["PRESENCE"][0, 0] - 1 / (1 + np.exp(-presence[0]))) <= 1e-3
    for query, (box, mask) in enumerate(zip(boxes[::4], some_masks, strict=True)):
        near = np.abs(answer["BOXES"][0] - box).max(axis=1) + np.abs(answer["SCORES"][0] - scores[4 * query])
        rank = int(near.argmin())
        assert near[rank] <= 4e-3
        assert np.abs(answer["MASK_LOGITS"][0, rank] - mask).max() <= 0.5


@pytest.mark.parametrize("name", ["coffee/text_0", "rocket/text_and_two_boxes"])
def test_empty_slots_and_what_is_in_them_change_nothing(name: str, modules: Modules) -> None:
    case = next(case for case in CASES if case.name == name)
    expected = modules.detect(modules.inputs(case, 2))
    inputs = modules.inputs(case, 8)
    inputs["BOX_COORDS"][inputs["BOX_LABELS"] == EMPTY] = 0.7
    inputs["TEXT_FEATURES"] = np.where(inputs["TEXT_MASK"][..., None], inputs["TEXT_FEATURES"], 3)
    found = modules.detect(inputs)
    for output in ("SCORES", "BOXES", "PRESENCE"):
        np.testing.assert_allclose(found[output], expected[output], atol=1e-5)


def test_the_instances_are_those_of_the_ranks(modules: Modules) -> None:
    inputs = modules.inputs(CASES[0], 8)
    all_of_them = modules.detect(inputs)
    some = modules.detect({**inputs, "RANKS": np.array([[3, 0]], np.int32)})
    np.testing.assert_array_equal(some["SCORES"], all_of_them["SCORES"])
    for output in ("BOXES", "MASK_LOGITS"):
        np.testing.assert_allclose(some[output], all_of_them[output][:, [3, 0]], atol=1e-4)


@pytest.mark.parametrize(
    ("centre", "size"), [((0.5, 0.5), (0.6, 0.3)), ((0.02, 0.98), (0.3, 0.3)), ((0.5, 0.5), (0.001, 0.9))]
)
def test_boxes_are_pooled_as_roi_align_does(centre: tuple, size: tuple, loaded: Checkpoint) -> None:
    """Against ONNX's RoiAlign, the same operator as torchvision's, on features of one channel."""
    import onnx
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    assert loaded.concepts is not None
    examples = BoxExamples(loaded.concepts.geometry_encoder, 24)
    features = np.random.default_rng(0).normal(size=(24, 24)).astype(np.float32)
    with torch.no_grad():
        across, down = (
            examples._averages(torch.tensor([[place]]), torch.tensor([[extent]]))[0, 0]
            for place, extent in zip(centre, size, strict=True)
        )
    pooled = down.numpy() @ features @ across.numpy().T
    node = helper.make_node(
        "RoiAlign",
        ["X", "rois", "batch"],
        ["Y"],
        output_height=7,
        output_width=7,
        sampling_ratio=0,
        coordinate_transformation_mode="output_half_pixel",
    )
    kinds = (("X", onnx.TensorProto.FLOAT), ("rois", onnx.TensorProto.FLOAT), ("batch", onnx.TensorProto.INT64))
    graph = helper.make_graph(
        [node],
        "pool",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds],
        [helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    corners = 24 * np.array([[c + sign * s / 2 for sign in (-1, 1) for c, s in zip(centre, size, strict=True)]])
    (expected,) = ReferenceEvaluator(model).run(
        None, {"X": features[None, None], "rois": corners.astype(np.float32), "batch": np.zeros(1, np.int64)}
    )
    np.testing.assert_allclose(pooled, expected[0, 0], atol=1e-5)


def test_the_layout_is_read_and_written_back(loaded: Checkpoint, tensors: dict[str, torch.Tensor]) -> None:
    assert loaded.concepts is not None
    written = concept_layout.write(loaded.concepts.state_dict())
    for name, tensor in written.items():
        torch.testing.assert_close(tensor, tensors[name].float(), rtol=0, atol=0)


def test_every_tensor_is_needed(tmp_path: Path, loaded: Checkpoint, tensors: dict[str, torch.Tensor]) -> None:
    assert loaded.concepts is not None
    parameters = loaded.concepts.state_dict()
    for key in ("detr_decoder.layers.1.text_cross_attn.v_proj.bias", "levels.0.scale_layers.2.weight"):
        name = concept_layout.metas_name(key)
        with pytest.raises(ExportError, match=rf"lacks the key {name}.*export with --components clicks"):
            checkpoint._concept_state(tmp_path, {k: v for k, v in tensors.items() if k != name}, parameters)
        with pytest.raises(ExportError, match=f"{name} has the wrong shape for "):
            checkpoint._concept_state(tmp_path, {**tensors, name: tensors[name][..., None]}, parameters)


def test_clicks_alone_are_loaded_if_they_are_all_that_is_wanted(loaded: Checkpoint) -> None:
    clicks = checkpoint.load(str(golden_concepts.CHECKPOINT), golden_concepts.CONFIG, concepts=False)
    assert clicks.concepts is None
    assert clicks.architecture == replace(loaded.architecture, concepts=None)
    assert clicks.parameters < loaded.parameters


def test_a_checkpoint_without_concepts_says_so_if_they_are_wanted(tmp_path: Path, capsys) -> None:
    assert checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG).concepts is None
    command = ["--checkpoint", str(golden.CHECKPOINT), "--config", str(golden.CONFIG), "--repository", str(tmp_path)]
    assert main([*command, "--components", "clicks,concepts"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error == (
        f"sam3-export: {golden.CHECKPOINT}: has no concept prompts (no key begins with detector.transformer.decoder.)"
    )


def test_a_transformers_directory_with_both_halves_gives_the_same_network(tmp_path: Path, loaded: Checkpoint) -> None:
    from safetensors.torch import save_file

    assert loaded.concepts is not None
    clicks, concepts = loaded.model.config.to_dict(), loaded.concepts.config.to_dict()
    concepts["vision_config"]["backbone_config"] = clicks["vision_config"]["backbone_config"]
    config = {"model_type": "sam3_video", "tracker_config": clicks, "detector_config": concepts}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(hub_tensors(loaded), tmp_path / "model.safetensors", {"format": "pt"})
    found = checkpoint.load(str(tmp_path))
    assert found.architecture == loaded.architecture
    assert found.concepts is not None
    for ours, theirs in ((found.model, loaded.model), (found.concepts, loaded.concepts)):
        for key, tensor in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], tensor, rtol=0, atol=0)
    norms = [module for module in found.concepts.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}
    assert checkpoint.load(str(tmp_path), concepts=False).concepts is None


def hub_tensors(loaded: Checkpoint) -> dict[str, torch.Tensor]:
    """The weights under the names of facebook/sam3: a video model of detector, tracker, and the tracker's neck."""
    assert loaded.concepts is not None
    prefixes = (
        (loaded.model, "vision_encoder.backbone.", "detector_model.vision_encoder.backbone."),
        (loaded.model, "vision_encoder.neck.", "tracker_neck."),
        (loaded.model, "", "tracker_model."),
        (loaded.concepts, "levels.", "detector_model.vision_encoder.neck.fpn_layers."),
        (loaded.concepts, "text_encoder.", "detector_model.text_encoder.text_model."),
        (loaded.concepts, "", "detector_model."),
    )
    tensors = {}
    for network in (loaded.model, loaded.concepts):
        for key, tensor in network.state_dict().items():
            _, own, theirs = next(row for row in prefixes if row[0] is network and key.startswith(row[1]))
            tensors[theirs + key.removeprefix(own)] = tensor.clone()
    # Of the fourth level of the neck, and of CLIP's own projection, which are not used.
    width, hidden = loaded.architecture.hidden_size, loaded.architecture.fpn_hidden_size
    for name, shape in (("proj1", (hidden, width, 1, 1)), ("proj2", (hidden, hidden, 3, 3))):
        tensors[f"detector_model.vision_encoder.neck.fpn_layers.3.{name}.weight"] = torch.zeros(shape)
        tensors[f"detector_model.vision_encoder.neck.fpn_layers.3.{name}.bias"] = torch.zeros(hidden)
    projection = loaded.concepts.config.text_config.projection_dim, loaded.concepts.config.text_config.hidden_size
    tensors["detector_model.text_encoder.text_projection.weight"] = torch.zeros(projection)
    return tensors


@pytest.mark.parametrize(
    ("components", "fault"),
    [("concepts", "concepts need clicks"), ("clicks,video", "unknown component video"), ("", "unknown component ''")],
)
def test_a_wrong_choice_of_components_is_named(components: str, fault: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--components", components])
    assert fault in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"config": {}, "concepts": {"queries": 3}}, "unknown key queries"),
        ({"config": {}, "concept": {}}, "unknown key concept"),
        ({"config": []}, "expected a JSON object of sizes, found list"),
        ({"concepts": 3}, "expected a JSON object of sizes, found int"),
        ({"concepts": {"num_queries": 0}}, "num_queries must be a positive integer, not 0"),
        ({"concepts": {"text_hidden_size": 50}}, r"text_hidden_size \(50\) must be a multiple of"),
        ({"concepts": {"scoring_hidden_size": 64}}, r"scoring_hidden_size \(64\) must equal detr_intermediate_size"),
    ],
)
def test_bad_sizes_are_reported(content: dict, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ExportError, match=fault):
        Architecture.from_json(path)


def test_sizes_that_are_left_out_are_sam3s(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"config": {"image_size": 336}, "concepts": {"num_queries": 20}}))
    assert Architecture.from_json(path) == Architecture(image_size=336, concepts=ConceptArchitecture(num_queries=20))
