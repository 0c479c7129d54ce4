"""Triton's side of the embedding cache: unpack, ask the policy, answer now or after the encode.

An answer brings the prompt as well, laid out for the image: that needs the image's size, and a model of its own would
cost each click another way between processes.
"""

from __future__ import annotations

import json
import re
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from embedding_cache import BusyError, CacheStats, EmbeddingCache, Limits, NotCachedError, image_id
from feature_memory import FeatureMemory, RecentlySent
from prompts import Prompt, PromptError, lay_out

FEATURES = ("HIGH_RES_FEATURES_0", "HIGH_RES_FEATURES_1", "IMAGE_EMBEDDING")
ORIGINAL_SIZE = "ORIGINAL_SIZE"
ENCODE_MODEL = "sam3_encode"
# Written by sam3-export beside the artifacts, from the folder of this model.
EXPORT_REPORT = Path("..") / "sam3" / "exports" / "current" / "export.json"
# That of sam3_export.spec.
INTERFACE = 2

# Triton puts these in front of an error of an inner model; the caller did not ask for sam3_encode.
_ENSEMBLE_PREFIX = re.compile(r"^(in ensemble '[^']*', )+")
# An error loses its code on the way back from sam3_encode. sam3_preprocess begins its own with the first;
# Triton says the other where models are loaded one by one and sam3_encode is not among them yet. (Asking
# is_model_ready while the server starts would abort it: Triton 2.51.)
INVALID_IMAGE = "invalid image: "
# In Triton's words: not loaded, and stopping.
NOT_READY = (f"Model '{ENCODE_MODEL}' is not ready", "Server not ready")
# How often those who wait are asked whether they still do, and the metrics are brought up to date. Not at each request:
# a metric is a message to Triton, whose answer the next click would wait for.
_SWEEP_S = 0.1
# Images whose features stay in shared memory once they were hit (docs/cache.md, "Shared memory").
_SENT_IMAGES = 8


class EncodeError(Exception):
    """`sam3_encode` answered with an error."""


@dataclass(frozen=True)
class ImageEmbedding:
    """Features of one image (fp16 arrays [1, C, h, w]) and its original size (int32 [height, width])."""

    features: dict[str, Any]
    original_size: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of the features."""
        return sum(feature.nbytes for feature in self.features.values())

    @property
    def low_res_size(self) -> tuple[int, int]:
        """(height, width) of the decoder's logits, and so of a mask input."""
        return self.features["HIGH_RES_FEATURES_0"].shape[-2:]


class Reply:
    """Answers one request, once."""

    def __init__(self, request) -> None:
        self.key = ""
        self.prompt = Prompt()
        self._sender = request.get_response_sender()
        self._outputs = set(request.requested_output_names())
        timeout_us = request.timeout()
        self._deadline = time.monotonic() + timeout_us / 1e6 if timeout_us else float("inf")
        # A sender that has sent its last must not be asked anything any more.
        self._lock = threading.Lock()
        self._open = True

    def embedding(
        self, embedding: ImageEmbedding, as_tensors: Callable[[ImageEmbedding], dict[str, Any]], hit: bool
    ) -> None:
        """Sends the outputs that were asked for; or an error, if the prompt does not fit the image.

        Args:
            as_tensors: makes Triton's tensors of the features, by output name; called where one is asked for.
        """
        try:
            layout = lay_out(self.prompt, embedding.original_size.tolist(), embedding.low_res_size)
            small = {
                **{name.upper(): value for name, value in vars(layout).items()},
                # A prefetch has none. Whether masks were asked for is not known here: sam3_mask_postprocess refuses.
                "HAS_PROMPT": np.array([not self.prompt.is_empty]),
                ORIGINAL_SIZE: embedding.original_size,
                "IMAGE_ID": np.array([self.key.encode()], np.object_),
                "CACHE_HIT": np.array([hit]),
            }
            outputs = {name: pb_utils.Tensor(name, value) for name, value in small.items()}
            if self._outputs.intersection(FEATURES):
                outputs.update(as_tensors(embedding))
            self._send(pb_utils.InferenceResponse([outputs[name] for name in outputs if name in self._outputs]))
        except PromptError as error:
            self.error(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # no shared memory left, say
            pb_utils.Logger.log_error(traceback.format_exc())
            self.error(f"the features cannot be sent: {error}", pb_utils.TritonError.INTERNAL)

    def error(self, message: str, code: int) -> None:
        """Sends an error; never raises, so that one caller's trouble does not keep the next one waiting."""
        try:
            self._send(pb_utils.InferenceResponse([], pb_utils.TritonError(message, code)))
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())

    def is_cancelled(self) -> bool:
        """Whether the caller has gone. Inside an ensemble Triton (2.51 at least) does not tell."""
        with self._lock:
            return self._open and self._sender.is_cancelled()

    def is_late(self) -> bool:
        """Whether the timeout that came with the request has passed."""
        return time.monotonic() > self._deadline

    def _send(self, response) -> None:
        with self._lock:
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            self._open = False


class CacheMetrics:
    """The cache's counts on Triton's metrics port."""

    def __init__(self) -> None:
        self._published = CacheStats()
        self._families = {}  # a family that is not referenced disappears from the metrics
        self._metrics = {}
        for field in fields(CacheStats):
            gauge = field.metadata["gauge"]
            self._families[field.name] = pb_utils.MetricFamily(
                name=f"sam3_embedding_cache_{field.name}" + ("" if gauge else "_total"),
                description=field.metadata["help"],
                kind=pb_utils.MetricFamily.GAUGE if gauge else pb_utils.MetricFamily.COUNTER,
            )
            self._metrics[field.name] = self._families[field.name].Metric(labels={"model": "sam3_embedding_cache"})

    def publish(self, cache: EmbeddingCache) -> None:
        """Brings the metrics up to the cache's counts; for one thread alone."""
        stats = cache.stats
        for name, metric in self._metrics.items():
            change = getattr(stats, name) - getattr(self._published, name)
            if change:
                metric.increment(change)
        self._published = stats


class TritonPythonModel:
    """One instance owns the store; encodes run on threads of its own."""

    def initialize(self, args) -> None:
        """Makes sure of the artifacts, and reads the bounds from the model's parameters."""
        _check_export(Path(args["model_repository"]) / EXPORT_REPORT)
        parameters = json.loads(args["model_config"])["parameters"]
        texts = {name: parameter["string_value"] for name, parameter in parameters.items()}
        limits = Limits.parse(texts)
        self.memory = FeatureMemory(texts["memory"])
        self.device = int(args["model_instance_device_id"])
        self.cache: EmbeddingCache[ImageEmbedding, Reply] = EmbeddingCache(limits)
        self.metrics = CacheMetrics()
        self.metrics.publish(self.cache)
        self.waiting: set[Reply] = set()
        # Tensors of the GPU do not pass through shared memory. Hits are sent by the thread of `execute` alone.
        self.hit_as_tensors = _tensors if self.memory.on_gpu else RecentlySent(_tensors, _SENT_IMAGES).tensors
        self.encoders = ThreadPoolExecutor(limits.max_concurrent_encodes, thread_name_prefix="encode")
        self.stopping = threading.Event()
        self.sweeper = threading.Thread(target=self._sweep_until_stopped, name="sweep")
        self.sweeper.start()

    def execute(self, requests) -> None:
        """Answers hits; leaves misses to the encode threads. Responses go through each request's sender."""
        for request in requests:
            reply = Reply(request)
            try:
                self._admit(request, reply)
            except Exception:
                self.waiting.discard(reply)
                pb_utils.Logger.log_error(traceback.format_exc())
                reply.error("sam3_embedding_cache failed; the server's log says why", pb_utils.TritonError.INTERNAL)

    def finalize(self) -> None:
        """Lets the encodes under way finish."""
        self.encoders.shutdown(wait=True)
        self.stopping.set()
        self.sweeper.join()

    def _admit(self, request, reply: Reply) -> None:
        image, claimed = _bytes_input(request, "IMAGE"), _bytes_input(request, "CACHED_IMAGE_ID")
        claimed_id = None if claimed is None else claimed.decode("utf-8", "replace")
        reply.key = image_id(image) if image is not None else claimed_id or ""
        reply.prompt = _prompt(request)
        if image is None and claimed is None:
            reply.error("neither IMAGE nor CACHED_IMAGE_ID was given", pb_utils.TritonError.INVALID_ARG)
            return
        if claimed_id is not None and claimed_id != reply.key:
            message = f"CACHED_IMAGE_ID is {claimed_id!r}, but the sha256 of IMAGE is {reply.key}"
            reply.error(message, pb_utils.TritonError.INVALID_ARG)
            return
        self.waiting.add(reply)  # before it is admitted: afterwards it may have been answered already
        try:
            admission = self.cache.admit(reply.key, reply, image)
        except NotCachedError:
            self.waiting.discard(reply)
            reply.error(f"no image with the id {reply.key!r} is cached; send IMAGE", pb_utils.TritonError.NOT_FOUND)
        except BusyError as error:
            self.waiting.discard(reply)
            reply.error(f"{error}; try again later", pb_utils.TritonError.UNAVAILABLE)
        else:
            if admission.embedding is not None:
                self.waiting.discard(reply)
                reply.embedding(admission.embedding, self.hit_as_tensors, hit=True)
            elif admission.must_encode:
                self.encoders.submit(self._encode_next)

    def _encode_next(self) -> None:
        taken = self.cache.begin()
        if taken is None:
            return
        key, image = taken
        started = time.monotonic()
        try:
            embedding = self._call_encoder(image)
        except Exception as error:  # whatever it is, those who wait must hear of it
            message, code = str(error), _code_of(str(error))
            for reply in self._handed_out(self.cache.fail(key)):
                reply.error(message, code)
        else:
            for reply in self._handed_out(self.cache.complete(key, embedding, time.monotonic() - started)):
                reply.embedding(embedding, _tensors, hit=False)

    def _handed_out(self, replies: list[Reply]) -> list[Reply]:
        self.waiting.difference_update(replies)
        return replies

    def _call_encoder(self, image: bytes) -> ImageEmbedding:
        kind = pb_utils.TRITONSERVER_MEMORY_GPU if self.memory.on_gpu else pb_utils.TRITONSERVER_MEMORY_CPU
        response = pb_utils.InferenceRequest(
            model_name=ENCODE_MODEL,
            requested_output_names=[*FEATURES, ORIGINAL_SIZE],
            inputs=[pb_utils.Tensor("IMAGE", np.array([image], np.object_))],
            preferred_memory=pb_utils.PreferredMemory(kind, self.device),
        ).exec()
        if response.has_error():
            raise EncodeError(_ENSEMBLE_PREFIX.sub("", response.error().message()))
        # The response's memory goes back to Triton; what is kept must be a copy.
        outputs = {tensor.name(): tensor for tensor in response.output_tensors()}
        features = {name: self.memory.keep(outputs[name]) for name in FEATURES}
        return ImageEmbedding(features, outputs[ORIGINAL_SIZE].as_numpy().copy())

    def _sweep_until_stopped(self) -> None:
        while not self.stopping.wait(_SWEEP_S):
            try:
                self._sweep()
            except Exception:
                pb_utils.Logger.log_error(traceback.format_exc())

    def _sweep(self) -> None:
        """Lets go of those who no longer wait, and of what is too old."""
        for reply in list(self.waiting):
            if reply.is_late():
                message = "the request's timeout passed before its image was encoded"
                code = pb_utils.TritonError.UNAVAILABLE
            elif reply.is_cancelled():
                message = "the request was cancelled before its image was encoded"
                code = pb_utils.TritonError.CANCELLED
            else:
                continue
            if self.cache.leave(reply.key, reply):
                self.waiting.discard(reply)
                reply.error(message, code)
        self.cache.expire()
        self.metrics.publish(self.cache)


def _check_export(report: Path) -> None:
    """Makes sure that the artifacts are of this version: others would be refused in obscure words, or answer with wrong
    masks."""
    if not report.is_file():
        raise pb_utils.TritonModelException(f"{report} is missing: run sam3-export into this repository")
    if json.loads(report.read_text()).get("interface") != INTERFACE:
        raise pb_utils.TritonModelException(f"{report}: exported by another version of this project; run sam3-export")


def _code_of(message: str) -> int:
    if message.startswith(INVALID_IMAGE):
        return pb_utils.TritonError.INVALID_ARG
    if any(words in message for words in NOT_READY):
        return pb_utils.TritonError.UNAVAILABLE
    return pb_utils.TritonError.INTERNAL


def _tensors(embedding: ImageEmbedding) -> dict[str, Any]:
    return {name: _tensor(name, feature) for name, feature in embedding.features.items()}


def _tensor(name: str, array):
    # Not by DLPack where it is numpy's: Triton marks a used capsule with a name that numpy takes for an error.
    return pb_utils.Tensor(name, array) if isinstance(array, np.ndarray) else pb_utils.Tensor.from_dlpack(name, array)


def _prompt(request) -> Prompt:
    """Copies: an answer that waits for an encode outlives the request's tensors."""
    points, labels, box, mask_input, multimask = (
        None if array is None else array.copy()
        for array in (_input(request, name) for name in ("POINTS", "LABELS", "BOX", "MASK_INPUT", "MULTIMASK"))
    )
    return Prompt(points, labels, box, mask_input, multimask is not None and bool(multimask[0]))


def _bytes_input(request, name: str) -> bytes | None:
    array = _input(request, name)
    return None if array is None else array.reshape(-1)[0]


def _input(request, name: str) -> np.ndarray | None:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()
