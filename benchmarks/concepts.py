"""Concept prompts at SAM 3's own size, with random weights behind a backbone of one layer.

Measures a warm query against the bare detector, new texts a second, and what concept prompts cost a server of clicks:
the image encoder's fourth output, the bytes of an image in the cache, the time of a click.
"""

from __future__ import annotations

import statistics
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tritonclient.grpc as triton
from binary_masks import to_binary, to_png
from clip_tokens import PADDING, ClipTokenizer
from concept_postprocess import select, to_pixels
from concept_prompts import ConceptPrompt, lay_out_concept
from image_preprocess import decode, to_network_pixels
from sam3_export.concept_architecture import ConceptArchitecture
from sam3_server import TritonServer
from sam3_triton import Instances, Sam3Client
from sam3_triton.channels import ARGUMENTS

from benchmarks.clicks import Click, clicks_on, fresh_images
from benchmarks.full_size import FULL_SIZE, write_checkpoint
from benchmarks.limit import ENCODER, Arrays, run, session
from benchmarks.report import table
from benchmarks.repositories import exported
from benchmarks.results import BenchmarkError
from benchmarks.services import serving
from benchmarks.turns import in_turns

# Everything but the trunk has SAM 3's own size.
THIN = replace(FULL_SIZE, num_hidden_layers=1, global_attn_indexes=(), concepts=ConceptArchitecture())
_TEXT_ENCODER, _DETECTOR = "sam3_text_encoder", "sam3_concept_detector"
_MOST_THREADS = 4  # of sam3_concept_postprocess, for the masks of a request
_TEXT = "a red disc"
# Random weights give no score above the usual threshold.
_THRESHOLD, _INSTANCES = 0.0, 5
_TEXTS_AT_A_TIME = 4
# Rounds in which all ways take turns; clicks in a turn.
ROUNDS, BLOCK = 8, 30
Figures = dict[str, Any]


def compare_concepts(folder: Path, rounds: int, block: int) -> Figures:
    """The figures, as medians of all rounds, in which the compared ways take turns.

    Args:
        folder: for the checkpoint, which is kept between runs, and for its exports with and without concepts.
        rounds: how often all ways take turns.
        block: clicks in a turn; concept queries are a tenth as many.
    """
    checkpoint = folder / "sam3_concepts.pt"
    if not checkpoint.exists():
        write_checkpoint(checkpoint, THIN)
    repositories = {
        name: exported(checkpoint, folder / name, components)
        for name, components in (("clicks", "clicks"), ("concepts", "clicks,concepts"))
    }
    return measure(repositories, rounds, block)


def measure(repositories: dict[str, Path], rounds: int, block: int) -> Figures:
    """The figures of exports that lie in two repositories: one with `clicks` alone, one with `concepts`, too."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(serving(repository)) for name, repository in repositories.items()}
        clients = {
            name: stack.enter_context(Sam3Client(server.grpc_url, timeout_s=600)) for name, server in servers.items()
        }
        image, *others = fresh_images(1 + rounds)
        bare = BareDetector(repositories["concepts"], servers["concepts"], image)
        click = clicks_on([image], 1)[0]
        for client in clients.values():
            client.set_image(image)

        def find() -> Instances:
            return clients["concepts"].find(
                image_id=click.image_id, text=_TEXT, threshold=_THRESHOLD, max_instances=_INSTANCES
            )

        if list(find().mask_pngs) != bare.find():
            raise BenchmarkError("the server's masks differ from those of the bare detector")

        ways: dict[str, tuple[Callable[[], object], int]] = {
            "bare detector and postprocess": (bare.find, max(1, block // 10)),
            "client.find": (find, max(1, block // 10)),
            **{f"click, {name}": (partial(_click, client, click), block) for name, client in clients.items()},
        }
        turns = in_turns(ways, rounds)
        figures: Figures = {"milliseconds": {name: statistics.median(values) for name, values in turns.items()}}
        figures["milliseconds"] |= _encodes(clients, others[:rounds])
        figures["cache_bytes_per_image"] = {
            name: _metric(server, "bytes") / _metric(server, "entries") for name, server in servers.items()
        }
        figures["new_texts_per_second"] = _new_texts(clients["concepts"], click.image_id, rounds)
        figures["ratios"] = _ratios(figures["milliseconds"])
        return figures


class BareDetector:
    """The detector's ONNX Runtime session and the postprocess' functions, called in one process on a known image."""

    def __init__(self, repository: Path, server: TritonServer, image: bytes) -> None:
        cv2.setNumThreads(1)  # as sam3_concept_postprocess does
        picture = decode(image)
        self._size = (picture.shape[0], picture.shape[1])
        tokens = ClipTokenizer().tokens(_TEXT).ids[None]
        with triton.InferenceServerClient(server.grpc_url, channel_args=ARGUMENTS) as client:
            encoder = session(repository, client, ENCODER)
            pixels = to_network_pixels(picture, encoder.get_inputs()[0].shape[1])
            features = run(encoder, {"PIXELS": pixels})["BACKBONE_FEATURES"]
            text = run(session(repository, client, _TEXT_ENCODER), {"TOKENS": tokens})
            self._detector = session(repository, client, _DETECTOR)
        prompt = ConceptPrompt(text=_TEXT.encode(), threshold=_THRESHOLD, max_instances=_INSTANCES)
        layout = lay_out_concept(prompt, self._size, self._detector.get_outputs()[0].shape[1])
        self._inputs: Arrays = {
            "BACKBONE_FEATURES": features,
            **text,
            "TEXT_MASK": tokens != PADDING,
            "BOX_COORDS": layout.box_coords,
            "BOX_LABELS": layout.box_labels,
            "RANKS": layout.ranks,
        }
        self._threads = ThreadPoolExecutor(_MOST_THREADS)

    def find(self) -> list[bytes]:
        """The masks of the best instances, as PNG."""
        answer = run(self._detector, self._inputs)
        logits = answer["MASK_LOGITS"][0]
        ranks, _ = select(answer["SCORES"][0], logits, _THRESHOLD, _INSTANCES, 1)
        to_pixels(answer["BOXES"][0][ranks], self._size)
        return list(
            self._threads.map(lambda rank: to_png(to_binary(logits[rank].astype(np.float32), self._size)), ranks)
        )


def _click(client: Sam3Client, click: Click) -> None:
    client.predict(image_id=click.image_id, points=[click.point], logits=False)


def _encodes(clients: dict[str, Sam3Client], images: list[bytes]) -> dict[str, float]:
    """The median milliseconds until a new image is cached."""
    seconds: dict[str, list[float]] = {name: [] for name in clients}
    for image in images:
        for name, client in clients.items():
            started = time.perf_counter()
            client.set_image(image)
            seconds[name].append(time.perf_counter() - started)
    return {f"encode, {name}": 1000 * statistics.median(values) for name, values in seconds.items()}


def _new_texts(client: Sam3Client, image_id: str, rounds: int) -> float:
    """Queries a second with a warm image, each with a text that the server has not seen."""
    texts = [f"a red disc {number}" for number in range(rounds * _TEXTS_AT_A_TIME)]
    started = time.perf_counter()
    for first in range(0, len(texts), _TEXTS_AT_A_TIME):
        several = texts[first : first + _TEXTS_AT_A_TIME]
        client.find(image_id=image_id, text=several, threshold=_THRESHOLD, max_instances=_INSTANCES)
    return len(texts) / (time.perf_counter() - started)


def _metric(server: TritonServer, name: str) -> float:
    with urllib.request.urlopen(server.metrics_url) as answer:
        lines = answer.read().decode().splitlines()
    (line,) = [line for line in lines if line.startswith(f"sam3_embedding_cache_{name}{{")]
    return float(line.split()[-1])


def _ratios(milliseconds: dict[str, float]) -> dict[str, float]:
    return {
        "client.find / bare detector": milliseconds["client.find"] / milliseconds["bare detector and postprocess"],
        "click with concepts / without": milliseconds["click, concepts"] / milliseconds["click, clicks"],
        "encode with concepts / without": milliseconds["encode, concepts"] / milliseconds["encode, clicks"],
    }


def markdown(figures: Figures) -> str:
    """The figures as a page."""
    rows = [(name, f"{value:.1f} ms") for name, value in figures["milliseconds"].items()]
    rows += [(f"{name} (ratio)", f"{value:.3f}") for name, value in figures["ratios"].items()]
    rows += [
        (f"cache of {name}", f"{value / 1e6:.1f} MB an image")
        for name, value in figures["cache_bytes_per_image"].items()
    ]
    rows.append(("new texts, warm image", f"{figures['new_texts_per_second']:.2f}/s"))
    return "# Concept prompts, SAM 3's own detector, random weights\n\n" + table(("", "median"), rows) + "\n"
