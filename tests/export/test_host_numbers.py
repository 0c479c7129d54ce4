"""A trace runs on the device on which it is loaded, and its sizes stay on the host."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sam3_export.host_numbers import keep_on_host
from sam3_export.native_backends import pytorch_rules

# A device other than the CPU that every machine has. Its tensors have no values, so waiting for one fails.
META = torch.device("meta")


@pytest.fixture(scope="module", autouse=True)
def constants_load_on_meta() -> Iterator[None]:
    """TorchScript compares the constants it loads, for which the meta device has no operator."""
    library = torch.library.Library("aten", "IMPL", "Meta")
    library.impl("equal", lambda one, other: False)
    yield
    library._destroy()


def test_traces_run_on_another_device_without_reading_numbers_back(exported: Path) -> None:
    """Constants follow the device, nothing names another one, and no size is computed there."""
    encoder, decoder = (
        torch.jit.load(str(exported / model / "1" / "model.pt"), map_location=META)
        for model in ("sam3_image_encoder", "sam3_mask_decoder")
    )
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        size = image_size(exported)
        high_res_0, high_res_1, embedding = encoder(torch.empty(3, size, size, 3, dtype=torch.uint8, device=META))
        side = high_res_0.shape[-1]
        logits, scores = decoder(
            embedding,
            high_res_0,
            high_res_1,
            torch.empty(3, 2, 5, 2, device=META),
            torch.empty(3, 2, 5, dtype=torch.int32, device=META),
            torch.empty(3, 1, side, side, device=META),
            torch.empty(3, 1, dtype=torch.bool, device=META),
            torch.empty(3, 1, dtype=torch.int32, device=META),
        )
    assert (logits.shape, scores.shape) == ((3, 2, 1, side, side), (3, 2, 1))
    assert {tensor.device for tensor in (high_res_1, embedding, logits, scores)} == {META}


def image_size(repository: Path) -> int:
    return json.loads((repository / "sam3" / "exports" / "current" / "export.json").read_text())["image_size"]


class Patches(torch.nn.Module):
    """Computes a size from a size, as tracing sees it."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        grid = pixels.shape[1] // 14
        return pixels.sum(1).expand(grid, -1)


def test_the_size_arithmetic_of_a_trace_is_found_and_moved_to_the_host(tmp_path: Path) -> None:
    frozen = torch.jit.freeze(torch.jit.trace(Patches().eval(), torch.rand(1, 28)))
    before, after = tmp_path / "before.pt", tmp_path / "after.pt"
    frozen.save(str(before))
    keep_on_host(frozen)
    frozen.save(str(after))
    assert pytorch_rules.read(before).waits == 1
    assert pytorch_rules.read(after).waits == 0
    pixels = torch.rand(1, 56)
    for path in (before, after):
        assert torch.equal(torch.jit.load(io.BytesIO(path.read_bytes()))(pixels), Patches()(pixels))
    with pytest.raises(RuntimeError):
        torch.jit.load(str(before), map_location=META)(pixels.to(META))
    assert torch.jit.load(str(after), map_location=META)(pixels.to(META)).shape == (4, 1)
