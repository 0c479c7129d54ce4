"""The parity gate passes a right artifact, whatever the scale of its weights, and refuses wrong ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from random_weights import random_network
from sam3_export import checkpoint, parity
from sam3_export.architecture import Architecture
from sam3_export.artifacts import Writer, cast, run_module
from sam3_export.components import Case, References, image_encoder, mask_decoder
from sam3_export.components.mask_decoder import LOGIT_TOLERANCE, MaskDecoder
from sam3_export.demo import CHECKPOINT
from sam3_export.half_precision import half
from sam3_export.onnx_formats import Onnx
from sam3_export.spec import BATCH, FP32_DRIFT, Arrays, ComponentSpec, TensorSpec
from sam3_export.torchscript_formats import TorchScript
from torch import Tensor, nn

from benchmarks.full_size import FULL_SIZE_DECODER

# SAM 3's own mask decoder, for a smaller picture.
_SMALL_PICTURE = replace(FULL_SIZE_DECODER, image_size=112, pretrain_image_size=112, window_size=8)
# With weights of four times the usual scale attention is nearly hard, and rounding grows more than a hundredfold.
_SCALE, _SEED = 4, 1


@dataclass
class Decoder:
    """A mask decoder with its spec, as the gate uses it, its cases and the sample for tracing."""

    module: nn.Module
    spec: ComponentSpec
    cases: Sequence[Case]
    sample: Arrays
    size: int

    def check(self, writer: Writer, module: nn.Module, folder: Path) -> None:
        """Writes the module and checks it against this decoder."""
        path = folder / "artifact"
        writer.write(module, self.spec, cast(self.sample, self.spec), path)
        parity.check(writer.load(self.spec, path), self.spec, self.cases, self.size)


def _decoder(module: nn.Module, architecture: Architecture, references: References) -> Decoder:
    component = mask_decoder.COMPONENT
    spec = component.spec(architecture)
    cases = [
        Case(name, inputs, run_module(module, spec, inputs))
        for name, inputs in component.inputs(architecture, references)
    ]
    sample = component.sample(architecture, references)
    size = architecture.image_size
    return Decoder(module, parity.widen(spec, module, cases, size), cases, sample, size)


def _with_demonstration_weights() -> Decoder:
    loaded = checkpoint.load(str(CHECKPOINT), CHECKPOINT.with_suffix(".json"), concepts=False)
    encoder = image_encoder.ImageEncoder(loaded.model).eval()
    spec = image_encoder.spec(loaded.architecture)
    inputs = image_encoder.COMPONENT.inputs(loaded.architecture, {})
    cases = [Case(name, arrays, run_module(encoder, spec, arrays)) for name, arrays in inputs]
    decoder = MaskDecoder(loaded.model).eval()
    return _decoder(decoder, loaded.architecture, {image_encoder.NAME: cases})


def _with_large_weights() -> Decoder:
    model = random_network(_SMALL_PICTURE, _SCALE, _SEED)
    rng = np.random.default_rng(0)
    cases = [
        Case(
            f"batch of {batch}",
            {},
            {
                tensor.name: rng.normal(size=(batch, *tensor.axes[1:])).astype(np.float32)
                for tensor in image_encoder.features(_SMALL_PICTURE)
            },
        )
        for batch in (1, 2)
    ]
    return _decoder(MaskDecoder(model).eval(), _SMALL_PICTURE, {image_encoder.NAME: cases})


@pytest.fixture(scope="module")
def large() -> Decoder:
    return _with_large_weights()


@pytest.fixture(scope="module", params=[_with_demonstration_weights, _with_large_weights])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    made: Decoder = request.param()
    return made


def test_a_right_decoder_passes_although_its_weights_amplify_rounding(large: Decoder, tmp_path: Path) -> None:
    assert large.spec.tolerances["MASK_LOGITS"] > 2 * LOGIT_TOLERANCE
    large.check(Onnx(), large.module, tmp_path)


def _swapped_masks(module: MaskDecoder) -> None:
    mlps = module.decoder.output_hypernetworks_mlps
    mlps[1], mlps[2] = mlps[2], mlps[1]


def _swapped_projections(module: MaskDecoder) -> None:
    attention = module.decoder.transformer.layers[1].self_attn
    attention.q_proj, attention.k_proj = attention.k_proj, attention.q_proj


def _no_mask_embed_dropped(module: MaskDecoder) -> None:
    nn.init.zeros_(module.prompt_encoder.no_mask_embed.weight)


@pytest.mark.parametrize("fault", [_swapped_masks, _swapped_projections, _no_mask_embed_dropped])
def test_a_wrong_decoder_is_refused(fault: Callable[[MaskDecoder], None], decoder: Decoder, tmp_path: Path) -> None:
    wrong = copy.deepcopy(decoder.module)
    fault(wrong)
    with pytest.raises(parity.ParityError, match="differs from PyTorch"):
        decoder.check(TorchScript(), wrong, tmp_path)


def test_a_decoder_that_computes_in_fp16_is_no_fp32_decoder(decoder: Decoder, tmp_path: Path) -> None:
    with pytest.raises(parity.ParityError, match="differs from PyTorch"):
        decoder.check(TorchScript(), half(decoder.module, own_softmax=True), tmp_path)


def test_an_encoder_without_metas_layer_norm_eps_is_refused(tmp_path: Path) -> None:
    loaded = checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)
    component, spec = image_encoder.COMPONENT, image_encoder.spec(loaded.architecture)
    right = component.module(loaded).eval()
    name, inputs = component.inputs(loaded.architecture, {})[0]
    cases = [Case(name, inputs, run_module(right, spec, inputs))]
    wrong = copy.deepcopy(right)
    for part in wrong.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = 1e-6  # transformers' default
    for module in (right, wrong):
        path = tmp_path / "artifact"
        TorchScript().write(component.served(module).eval(), spec, component.sample(loaded.architecture, {}), path)
        artifact = TorchScript().load(spec, path)
        if module is right:
            parity.check(artifact, spec, cases, loaded.architecture.image_size)
        else:
            with pytest.raises(parity.ParityError, match="differs from PyTorch"):
                parity.check(artifact, spec, cases, loaded.architecture.image_size)


def test_weights_for_which_pytorch_itself_is_unstable_do_not_open_the_gate() -> None:
    class Unstable(nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (x if self.weight.dtype == torch.float32 else -x,)

    spec = ComponentSpec(
        model_name="unstable",
        title="unstable network",
        inputs=(TensorSpec("X", "float32", (BATCH, 1, 1, 1)),),
        outputs=(TensorSpec("MASK_LOGITS", "float32", (BATCH, 1, 1, 1)),),
        tolerances={"MASK_LOGITS": 1e-4},
    )
    x = np.ones((1, 1, 1, 1), np.float32)
    widened = parity.widen(spec, Unstable(1, 1), [Case("a case", {"X": x}, {"MASK_LOGITS": x})], 1)
    assert widened.tolerances == {"MASK_LOGITS": FP32_DRIFT.logits}
    assert widened.minimum_mask_iou == FP32_DRIFT.mask_iou
