"""Measures SAM 3's own mask decoder with random weights, and the plain baseline with SAM 3's own encoder."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from sam3_export.architecture import Architecture
from sam3_export.concept_architecture import ConceptArchitecture

from benchmarks import loads
from benchmarks.local import compare_warm_clicks, local_bench, second_click
from benchmarks.repositories import exported
from benchmarks.results import LAST_IMAGE_BASELINE, PLAIN_BASELINE, Results
from benchmarks.scenarios import Amount
from benchmarks.services import fastapi_baseline
from benchmarks.systems import Album, Load, baseline_system

AMOUNT = Amount(
    rounds=10, block=30, requests=32, window_s=1.8, concurrencies=(8,), cold=0, trace_images=0, trace_clicks=0
)
# A request of the plain baseline takes most of a minute on two cores.
_PLAIN_REQUESTS = 2
_SEED = 0
FULL_SIZE = Architecture()
FULL_SIZE_CONCEPTS = replace(FULL_SIZE, concepts=ConceptArchitecture())
# SAM 3's mask decoder and features behind a backbone of one thin layer.
FULL_SIZE_DECODER = replace(
    FULL_SIZE,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=1,
    num_attention_heads=2,
    global_attn_indexes=(),
)


def compare_full_size(folder: Path, with_encoder: bool) -> Results:
    """Limit, server, gateway and the last-image baseline on one decoder; then the plain baseline, which encodes.

    Args:
        folder: for checkpoints, which are kept between runs, and for the repository, which is exported anew, so that
            this version is measured.
        with_encoder: whether to measure the plain baseline, which takes 8 GB of memory and minutes.
    """
    decoder = folder / "sam3_decoder.pt"
    if not decoder.exists():
        write_checkpoint(decoder, FULL_SIZE_DECODER)
    repository = exported(decoder, folder / "export", "clicks")
    with ExitStack() as stack:
        title = "Benchmarks, SAM 3's own mask decoder, random weights"
        bench, limit = stack.enter_context(local_bench(title, repository, AMOUNT))
        bench.results.full_size = True
        last = stack.enter_context(fastapi_baseline(decoder, decoder.with_suffix(".json"), "--last-image"))
        compare_warm_clicks(bench, limit, [second_click(LAST_IMAGE_BASELINE, last, bench.album, AMOUNT.block)])
        if with_encoder:
            bench.add([_plain(folder / "sam3.pt", bench.album, stack)])
        return bench.results


def write_checkpoint(path: Path, architecture: Architecture = FULL_SIZE) -> None:
    """A file in the layout of `sam3.pt` with seeded random weights, fp32, and its sizes as JSON beside it.

    It shows the cost of SAM 3's size, not its mask quality.
    """
    import torch
    from sam3_export import concept_layout, concept_network, sam3_layout

    torch.manual_seed(_SEED)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    tensors = sam3_layout.write(architecture.build().state_dict(), sam3_layout.SAM3)
    if architecture.concepts is not None:
        tensors |= concept_layout.write(concept_network.build(architecture).state_dict())
    torch.save({"model": tensors}, unfinished)
    path.with_suffix(".json").write_text(json.dumps(asdict(architecture), indent=2) + "\n")
    unfinished.rename(path)


def _plain(checkpoint: Path, album: Album, stack: ExitStack) -> Load:
    if not checkpoint.exists():
        write_checkpoint(checkpoint)
    service = stack.enter_context(fastapi_baseline(checkpoint, None))
    one_image = Album([click for click in album.clicks if click.image is album.clicks[0].image])
    return loads.uploads(baseline_system(service, PLAIN_BASELINE), service, one_image, _PLAIN_REQUESTS, warm_up=False)
