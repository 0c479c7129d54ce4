"""Empty slots do not change the answer to a prompt, in any format."""

from __future__ import annotations

from collections.abc import Callable

import golden
import numpy as np
import pytest
import torch
from sam3_export import checkpoint
from sam3_export.artifacts import cast, run_module
from sam3_export.components import click_prompts, image_encoder, mask_decoder, pictures
from sam3_export.components.click_prompts import (
    BACKGROUND,
    BOX_FIRST,
    BOX_SECOND,
    CANDIDATE_TOKENS,
    EMPTY,
    FOREGROUND,
    PADDING,
    SINGLE_TOKEN,
    PromptShape,
)
from sam3_export.components.image_encoder import ImageEncoder
from sam3_export.components.mask_decoder import MaskDecoder
from sam3_export.components.two_way import two_way
from sam3_export.formats import FORMATS
from sam3_export.half_precision import half
from sam3_export.spec import Arrays

# Logits reach 80 here, so this is a few of their last digits.
TOLERANCE = 1e-4

ONE_POINT = (FOREGROUND, PADDING)
BOX_AND_POINTS = (BOX_FIRST, BOX_SECOND, FOREGROUND, BACKGROUND, FOREGROUND, PADDING)
SHAPES = (
    PromptShape("one point", ((ONE_POINT,),), SINGLE_TOKEN, (False,)),
    PromptShape("one point, candidates", ((ONE_POINT,),), CANDIDATE_TOKENS, (False,)),
    PromptShape("box, mask input", (((BOX_FIRST, BOX_SECOND, PADDING),),), SINGLE_TOKEN, (True,)),
    PromptShape("box and points, candidates, some masks", ((BOX_AND_POINTS,),) * 2, CANDIDATE_TOKENS, (True, False)),
    PromptShape("two objects", ((BOX_AND_POINTS,) * 2,), CANDIDATE_TOKENS, (True,), masks=2),
)
Run = Callable[[Arrays], Arrays]


@pytest.fixture(scope="module")
def loaded() -> checkpoint.Checkpoint:
    return checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)


@pytest.fixture(scope="module")
def features(loaded: checkpoint.Checkpoint) -> Arrays:
    """The features of three images."""
    encoder = ImageEncoder(loaded.model).eval()
    return run_module(encoder, image_encoder.spec(loaded.architecture), pictures.pixels(loaded.architecture, 3, 7))


@pytest.fixture(scope="module", params=["pytorch", "onnx", "torchscript"])
def run(request: pytest.FixtureRequest, loaded: checkpoint.Checkpoint) -> Run:
    """The decoder as a PyTorch module, and in each exported format."""
    component = mask_decoder.spec(loaded.architecture)
    if request.param == "pytorch":
        module = MaskDecoder(loaded.model).eval()
        return lambda inputs: run_module(module, component, inputs)
    path = request.getfixturevalue("exported") / component.model_name / "1" / FORMATS[request.param].file_name
    artifact = FORMATS[request.param].writer().load(component, path)
    return lambda inputs: artifact.run(cast(inputs, component))


def with_empty_slots(inputs: Arrays, count: int) -> Arrays:
    """Appends empty slots to every prompt, at coordinates that would spoil any answer that used them."""
    behind = ((0, 0), (0, 0), (0, count))
    return {
        **inputs,
        "POINT_COORDS": np.pad(inputs["POINT_COORDS"], (*behind, (0, 0)), constant_values=np.nan),
        "POINT_LABELS": np.pad(inputs["POINT_LABELS"], behind, constant_values=EMPTY),
    }


def assert_same(found: Arrays, expected: Arrays) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("count", [1, 6, 29])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_empty_slots_change_nothing(
    run: Run, loaded: checkpoint.Checkpoint, features: Arrays, shape: PromptShape, count: int
) -> None:
    own = {name: np.ascontiguousarray(values[: shape.batch]) for name, values in features.items()}
    inputs = {**own, **click_prompts.prompts(loaded.architecture, shape, 11)}
    assert_same(run(with_empty_slots(inputs, count)), run(inputs))


def test_prompts_of_different_lengths_share_a_batch(run: Run, loaded: checkpoint.Checkpoint, features: Arrays) -> None:
    (shape,) = (
        shape for shape in click_prompts.PARITY_PROMPTS if shape.name.startswith("prompts of one, two and three")
    )
    inputs = {**features, **click_prompts.prompts(loaded.architecture, shape, 13)}
    together = run(inputs)
    for row, labels in enumerate(shape.labels):
        alone = {name: values[row : row + 1] for name, values in inputs.items()}
        used = len(labels[0]) - labels[0].count(EMPTY)
        alone |= {name: alone[name][:, :, :used] for name in ("POINT_COORDS", "POINT_LABELS")}
        assert_same({name: values[row : row + 1] for name, values in together.items()}, run(alone))


@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "a bias of zero"])
def test_without_empty_slots_the_transformer_is_transformers_own(
    loaded: checkpoint.Checkpoint, features: Arrays, biased: bool
) -> None:
    decoder = MaskDecoder(loaded.model).eval()
    transformer, image = decoder.decoder.transformer, torch.from_numpy(features["IMAGE_EMBEDDING"])
    positions, objects = decoder.image_positions, 2
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(len(image), objects, 9, image.shape[1], generator=generator)
    bias = torch.zeros(len(image), objects, 1, 1, 9) if biased else None
    pixels, places = (grid.flatten(2).transpose(1, 2).unsqueeze(1) for grid in (image, positions))
    with torch.inference_mode():
        found = two_way(transformer, tokens, pixels.expand(-1, objects, -1, -1), places, bias)
        repeated = image.repeat_interleave(objects, 0)
        expected = transformer(tokens.flatten(0, 1)[:, None], repeated, positions.expand_as(repeated), None)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.flatten(0, 1), theirs[:, 0], rtol=1e-5, atol=1e-5)


def test_half_precision_makes_no_nan(loaded: checkpoint.Checkpoint, features: Arrays) -> None:
    component, decoder = mask_decoder.spec(loaded.architecture), MaskDecoder(loaded.model).eval()
    own = {name: values[:1] for name, values in features.items()}
    inputs = with_empty_slots({**own, **click_prompts.prompts(loaded.architecture, SHAPES[1], 17)}, 5)
    expected = run_module(decoder, component, inputs)
    in_fp16 = component.in_precision("fp16")
    found = run_module(half(decoder, own_softmax=True), in_fp16, cast(inputs, in_fp16))
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=0.01 * np.abs(values).max())
