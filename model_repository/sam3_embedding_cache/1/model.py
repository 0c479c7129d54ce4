"""Triton's side of the embedding cache: unpack, ask the policy, answer now or after the encode."""

from __future__ import annotations

import re
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import triton_python_backend_utils as pb_utils
from embedding_cache import BusyError, CacheStats, EmbeddingCache, NotCachedError, image_id

FEATURES = ("HIGH_RES_FEATURES_0", "HIGH_RES_FEATURES_1", "IMAGE_EMBEDDING")
ORIGINAL_SIZE = "ORIGINAL_SIZE"
ENCODE_MODEL = "sam3_encode"

# Triton puts these in front of an error of an inner model; the caller did not ask for sam3_encode.
_ENSEMBLE_PREFIX = re.compile(r"^(in ensemble '[^']*', )+")
# An error loses its code on the way back from sam3_encode; sam3_preprocess begins its own with this.
INVALID_IMAGE = "invalid image: "


class EncodeError(Exception):
    """`sam3_encode` answered with an error."""


@dataclass(frozen=True)
class ImageEmbedding:
    """Features of one image ([1, C, h, w] each) and its original size (int32 [height, width])."""

    features: dict[str, np.ndarray]
    original_size: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of the features."""
        return sum(feature.nbytes for feature in self.features.values())


class Reply:
    """Answers one request, once."""

    def __init__(self, request) -> None:
        self._sender = request.get_response_sender()
        self._outputs = set(request.requested_output_names())

    def embedding(self, key: str, embedding: ImageEmbedding, hit: bool) -> None:
        """Sends the outputs that were asked for."""
        low_res_size = embedding.features["HIGH_RES_FEATURES_0"].shape[-2:]
        outputs = {
            **embedding.features,
            ORIGINAL_SIZE: embedding.original_size,
            "LOW_RES_SIZE": np.array(low_res_size, np.int32),
            "IMAGE_ID": np.array([key.encode()], np.object_),
            "CACHE_HIT": np.array([hit]),
        }
        try:
            tensors = [pb_utils.Tensor(name, value) for name, value in outputs.items() if name in self._outputs]
            self._send(pb_utils.InferenceResponse(tensors))
        except Exception as error:  # no shared memory left, say
            self.error(f"the features cannot be sent: {error}", pb_utils.TritonError.INTERNAL)

    def error(self, message: str, code: int) -> None:
        """Sends an error; never raises, so that one caller's trouble does not keep the next one waiting."""
        try:
            self._send(pb_utils.InferenceResponse([], pb_utils.TritonError(message, code)))
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())

    def _send(self, response) -> None:
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


class CacheMetrics:
    """The cache's counts on Triton's metrics port."""

    _HELP: ClassVar = {
        "hits": "Requests answered from the cache",
        "misses": "Requests that started an encode",
        "coalesced": "Requests that waited for an encode that another one had started",
        "evictions": "Images dropped to stay within cache_bytes",
        "failures": "Encodes that failed",
        "rejected": "Requests refused because max_inflight_encodes were in flight",
        "encode_seconds": "Seconds spent in successful encodes",
        "entries": "Images in the cache",
        "bytes": "Bytes of features in the cache",
    }
    _GAUGES = ("entries", "bytes")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._published = CacheStats()
        self._families = {}  # a family that is not referenced disappears from the metrics
        self._metrics = {}
        for field in fields(CacheStats):
            gauge = field.name in self._GAUGES
            self._families[field.name] = pb_utils.MetricFamily(
                name=f"sam3_embedding_cache_{field.name}" + ("" if gauge else "_total"),
                description=self._HELP[field.name],
                kind=pb_utils.MetricFamily.GAUGE if gauge else pb_utils.MetricFamily.COUNTER,
            )
            self._metrics[field.name] = self._families[field.name].Metric(labels={"model": "sam3_embedding_cache"})

    def publish(self, cache: EmbeddingCache) -> None:
        """Brings the metrics up to the cache's counts."""
        with self._lock:
            stats = cache.stats
            for name, metric in self._metrics.items():
                change = getattr(stats, name) - getattr(self._published, name)
                if change:
                    metric.increment(change)
            self._published = stats


class TritonPythonModel:
    """One instance owns the store; encodes run on threads of its own."""

    def initialize(self, args) -> None:
        """Reads the bounds from the model's parameters."""
        parameters = pb_utils.json.loads(args["model_config"])["parameters"]
        cache_bytes = int(parameters["cache_bytes"]["string_value"])
        max_inflight = int(parameters["max_inflight_encodes"]["string_value"])
        self.cache: EmbeddingCache[ImageEmbedding, Reply] = EmbeddingCache(cache_bytes, max_inflight)
        self.encoders = ThreadPoolExecutor(max_workers=max_inflight, thread_name_prefix="encode")
        self.metrics = CacheMetrics()

    def execute(self, requests) -> None:
        """Answers hits; leaves misses to the encode threads. Responses go through each request's sender."""
        for request in requests:
            reply = Reply(request)
            try:
                self._admit(request, reply)
            except Exception:
                pb_utils.Logger.log_error(traceback.format_exc())
                reply.error("sam3_embedding_cache failed; the server's log says why", pb_utils.TritonError.INTERNAL)
        self.metrics.publish(self.cache)

    def finalize(self) -> None:
        """Lets the encodes under way finish."""
        self.encoders.shutdown(wait=True)

    def _admit(self, request, reply: Reply) -> None:
        image, claimed = _bytes_input(request, "IMAGE"), _bytes_input(request, "CACHED_IMAGE_ID")
        claimed_id = None if claimed is None else claimed.decode("utf-8", "replace")
        key = image_id(image) if image is not None else claimed_id or ""
        if image is None and claimed is None:
            reply.error("neither IMAGE nor CACHED_IMAGE_ID was given", pb_utils.TritonError.INVALID_ARG)
            return
        if claimed_id is not None and claimed_id != key:
            message = f"CACHED_IMAGE_ID is {claimed_id!r}, but the sha256 of IMAGE is {key}"
            reply.error(message, pb_utils.TritonError.INVALID_ARG)
            return
        try:
            embedding, must_encode = self.cache.admit(key, reply, may_encode=image is not None)
        except NotCachedError:
            reply.error(f"no image with the id {key!r} is cached; send IMAGE", pb_utils.TritonError.NOT_FOUND)
        except BusyError as error:
            reply.error(f"{error}; try again later", pb_utils.TritonError.UNAVAILABLE)
        else:
            if embedding is not None:
                reply.embedding(key, embedding, hit=True)
            elif must_encode:
                self.encoders.submit(self._encode, key, image)

    def _encode(self, key: str, image: bytes) -> None:
        started = time.monotonic()
        try:
            embedding = _call_encoder(image)
        except Exception as error:  # whatever it is, those who wait must hear of it
            message = str(error)
            at_fault = message.startswith(INVALID_IMAGE)
            code = pb_utils.TritonError.INVALID_ARG if at_fault else pb_utils.TritonError.INTERNAL
            for reply in self.cache.fail(key):
                reply.error(message, code)
        else:
            for reply in self.cache.complete(key, embedding, time.monotonic() - started):
                reply.embedding(key, embedding, hit=False)
        self.metrics.publish(self.cache)


def _bytes_input(request, name: str) -> bytes | None:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)[0]


def _call_encoder(image: bytes) -> ImageEmbedding:
    response = pb_utils.InferenceRequest(
        model_name=ENCODE_MODEL,
        requested_output_names=[*FEATURES, ORIGINAL_SIZE],
        inputs=[pb_utils.Tensor("IMAGE", np.array([image], np.object_))],
    ).exec()
    if response.has_error():
        raise EncodeError(_ENSEMBLE_PREFIX.sub("", response.error().message()))
    # The response's memory goes back to Triton; what is kept must be a copy.
    outputs = {tensor.name(): tensor.as_numpy().copy() for tensor in response.output_tensors()}
    return ImageEmbedding({name: outputs[name] for name in FEATURES}, outputs[ORIGINAL_SIZE])
