"""Encoder and decoder against Meta's features, and the choices inside the decoder's graph."""

from __future__ import annotations

import golden
import numpy as np
import pytest
import torch
from image_preprocess import decode, to_network_pixels
from sam3_export import checkpoint
from sam3_export.artifacts import run_module
from sam3_export.components import click_prompts, image_encoder, mask_decoder, pictures
from sam3_export.components.image_encoder import ImageEncoder
from sam3_export.components.mask_decoder import MaskDecoder


@pytest.fixture(scope="module")
def loaded() -> checkpoint.Checkpoint:
    return checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)


@pytest.mark.parametrize("photo", ["coffee", "rocket", "chelsea_tall"])
def test_features_are_metas(loaded: checkpoint.Checkpoint, photo: str) -> None:
    pixels = to_network_pixels(decode((golden.FOLDER / f"{photo}.png").read_bytes()), 336)
    component = image_encoder.spec(loaded.architecture)
    features = run_module(ImageEncoder(loaded.model).eval(), component, {"PIXELS": pixels})
    with np.load(golden.FOLDER / "reference.npz") as reference:
        for name, key in (
            ("HIGH_RES_FEATURES_0", "features_0"),
            ("HIGH_RES_FEATURES_1", "features_1"),
            ("IMAGE_EMBEDDING", "image_embedding"),
        ):
            difference = np.abs(features[name][0, ::8, ::4, ::4] - reference[f"{photo}/{key}"]).max()
            assert difference <= 0.03, name


def test_each_row_of_a_batch_is_answered_as_if_alone(loaded: checkpoint.Checkpoint) -> None:
    decoder = MaskDecoder(loaded.model).eval()
    component = mask_decoder.spec(loaded.architecture)
    encoder_spec = image_encoder.spec(loaded.architecture)
    features = run_module(ImageEncoder(loaded.model).eval(), encoder_spec, pictures.pixels(loaded.architecture, 2, 5))
    inputs = {**features, **click_prompts.prompts(loaded.architecture, click_prompts.EXPORT_PROMPT, 5)}
    together = run_module(decoder, component, inputs)
    for row in range(2):
        alone = run_module(decoder, component, {name: array[row : row + 1] for name, array in inputs.items()})
        for name in together:
            np.testing.assert_allclose(alone[name][0], together[name][row], atol=1e-3)
    assert (np.diff(together["SCORES"], axis=2) <= 0).all()


@pytest.mark.parametrize(
    ("logits", "token"),
    [
        ([1.0, 1.0, 1.0, 1.0], 0),  # all above +0.05: stable
        ([1.0, 0.0, 0.0, 0.0], 2),  # one of four: unstable, the best of the others
        ([-1.0, -1.0, -1.0, -1.0], 0),  # nothing above -0.05 counts as stable
        ([0.0, 0.0, 0.0, 0.0], 2),
    ],
)
def test_an_unstable_single_mask_is_replaced(loaded: checkpoint.Checkpoint, logits: list[float], token: int) -> None:
    decoder = MaskDecoder(loaded.model)
    planes = torch.ones(1, 1, 4, 2, 2)
    planes[0, 0, 0] = torch.tensor(logits).reshape(2, 2)
    scores = torch.tensor([[[0.9, 0.1, 0.8, 0.3]]])
    chosen = decoder._replace_unstable(torch.tensor([[[0]]]), planes, scores)
    assert chosen.tolist() == [[[token]]]
    assert decoder._replace_unstable(torch.tensor([[[1, 2, 3]]]), planes, scores).tolist() == [[[1, 2, 3]]]
