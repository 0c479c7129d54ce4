"""Triton's side of the embedding cache: unpack requests, call the encoder, pack answers.

An answer also includes the prompt, laid out for the image. That needs the image's size, and a separate model for it
would add an inter-process round trip to every click.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from cache_errors import ENCODE_CONCEPTS_MODEL, ENCODE_MODEL, EncodeError, ErrorKind
from concept_prompts import DEFAULT_MAX_INSTANCES, DEFAULT_THRESHOLD, NMS_OFF, ConceptPrompt
from embedding_cache import CacheStats, EmbeddingCache, Limits
from embedding_service import EmbeddingService, Question
from encoder_export import ExportReportError, read_export
from feature_memory import FeatureMemory, RecentlySent
from image_embedding import BACKBONE_FEATURES, ImageEmbedding
from periodic import Periodic
from prompts import Prompt, check_size
from published_counts import MetricSpec, PublishedCounts
from reply import Reply

# Seconds between checks for waiting requests that timed out or were cancelled, and between updates of the metrics. Not
# at each request: updating a metric is a message to Triton, whose answer the next click would wait for.
_SWEEP_S = 0.1
# Images whose features stay in shared memory after a hit (docs/cache.md, "Shared memory").
_SENT_IMAGES = 8


class TritonPythonModel:
    """One instance owns the cache; encodes run on its own threads."""

    def initialize(self, args) -> None:
        """Checks the artifacts, and reads the bounds from the model's parameters."""
        try:
            export = read_export(Path(args["model_repository"]))
        except ExportReportError as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self.features, self.queries = export.features, export.queries
        self.encode_model = ENCODE_CONCEPTS_MODEL if BACKBONE_FEATURES in export.features else ENCODE_MODEL
        self.model = np.array([export.model.encode(), export.checkpoint_sha256.encode()], np.object_)
        parameters = json.loads(args["model_config"])["parameters"]
        texts = {name: parameter["string_value"] for name, parameter in parameters.items()}
        limits = Limits.parse(texts)
        self.max_objects = limits.max_objects
        self.memory = FeatureMemory(texts["memory"])
        self.device = int(args["model_instance_device_id"])
        self.cache: EmbeddingCache[ImageEmbedding, Reply] = EmbeddingCache(limits)
        self.families: list = []  # a family that is not referenced disappears from the metrics
        self.counts = PublishedCounts("sam3_embedding_cache_", CacheStats, self._metric)
        self.counts.publish(self.cache.stats)
        # Tensors on the GPU do not pass through shared memory.
        hit_tensors = _tensors if self.memory.on_gpu else RecentlySent(_tensors, _SENT_IMAGES).tensors
        encoders = ThreadPoolExecutor(limits.max_concurrent_encodes, thread_name_prefix="encode")
        log = pb_utils.Logger.log_error
        self.service = EmbeddingService(self.cache, self._encode, encoders, hit_tensors, _tensors, log)
        self.sweeps = Periodic(self._sweep, _SWEEP_S, log)

    def execute(self, requests) -> None:
        """Answers hits, and leaves misses to the encode threads. Responses go through each request's sender."""
        for request in requests:
            wanted, timeout_us = request.requested_output_names(), request.timeout()
            channel = _Channel(request.get_response_sender())
            reply = Reply(channel, wanted, self.model, timeout_us, pb_utils.Logger.log_error, queries=self.queries)
            self.service.answer(reply, partial(_question, request, self.max_objects, reply.wants_concept))

    def finalize(self) -> None:
        """Waits until all encodes have finished, and sweeps until then."""
        self.service.close()
        self.sweeps.stop()

    def _encode(self, image: bytes) -> ImageEmbedding:
        kind = pb_utils.TRITONSERVER_MEMORY_GPU if self.memory.on_gpu else pb_utils.TRITONSERVER_MEMORY_CPU
        response = pb_utils.InferenceRequest(
            model_name=self.encode_model,
            requested_output_names=[*self.features, "ORIGINAL_SIZE"],
            inputs=[pb_utils.Tensor("IMAGE", np.array([image], np.object_))],
            preferred_memory=pb_utils.PreferredMemory(kind, self.device),
        ).exec()
        if response.has_error():
            raise EncodeError(response.error().message())
        # Triton reclaims the response's memory, so the cache keeps copies.
        outputs = {tensor.name(): tensor for tensor in response.output_tensors()}
        features = {name: self.memory.keep(outputs[name]) for name in self.features}
        return ImageEmbedding(features, outputs["ORIGINAL_SIZE"].as_numpy().copy())

    def _sweep(self) -> None:
        self.service.sweep()
        self.counts.publish(self.cache.stats)

    def _metric(self, spec: MetricSpec):
        kind = pb_utils.MetricFamily.GAUGE if spec.is_gauge else pb_utils.MetricFamily.COUNTER
        self.families.append(pb_utils.MetricFamily(name=spec.name, description=spec.help, kind=kind))
        return self.families[-1].Metric(labels={"model": "sam3_embedding_cache"})


class _Channel:
    """A request's response sender as `Reply` uses it."""

    def __init__(self, sender) -> None:
        self._sender = sender

    def send(self, arrays: dict[str, np.ndarray], tensors: dict[str, Any]) -> None:
        made = [pb_utils.Tensor(name, array) for name, array in arrays.items()]
        self._send_last(pb_utils.InferenceResponse([*made, *tensors.values()]))

    def send_error(self, message: str, kind: ErrorKind) -> None:
        code = getattr(pb_utils.TritonError, kind.name)
        self._send_last(pb_utils.InferenceResponse([], pb_utils.TritonError(message, code)))

    def is_cancelled(self) -> bool:
        return self._sender.is_cancelled()

    def _send_last(self, response) -> None:
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _question(request, max_objects: int, wants_concept: bool) -> Question:
    """Copies the prompt: an answer that waits for an encode outlives the request's tensors."""
    points, labels, boxes, mask_input = (_copied(request, name) for name in ("POINTS", "LABELS", "BOXES", "MASK_INPUT"))
    multimask, outside = _number(request, "MULTIMASK", False), _number(request, "POINTS_OUTSIDE", False)
    prompt = Prompt(points, labels, boxes, mask_input, multimask, outside)
    check_size(prompt, max_objects)
    concept = _concept(request) if wants_concept else ConceptPrompt()
    return Question(_bytes_input(request, "IMAGE"), _bytes_input(request, "CACHED_IMAGE_ID"), prompt, concept)


def _concept(request) -> ConceptPrompt:
    boxes, labels = (_copied(request, name) for name in ("EXAMPLE_BOXES", "EXAMPLE_LABELS"))
    return ConceptPrompt(
        text=_bytes_input(request, "TEXT"),
        boxes=boxes,
        labels=labels,
        threshold=_number(request, "THRESHOLD", DEFAULT_THRESHOLD),
        max_instances=_number(request, "MAX_INSTANCES", DEFAULT_MAX_INSTANCES),
        nms_iou=_number(request, "NMS_IOU", NMS_OFF),
        with_masks=_number(request, "WITH_MASKS", True),
    )


def _bytes_input(request, name: str) -> bytes | None:
    array = _input(request, name)
    return None if array is None else array.reshape(-1)[0]


def _number(request, name: str, default):
    """The number or bool of an input of one element."""
    array = _input(request, name)
    return default if array is None else array[0].item()


def _copied(request, name: str) -> np.ndarray | None:
    array = _input(request, name)
    return None if array is None else array.copy()


def _input(request, name: str) -> np.ndarray | None:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _tensors(embedding: ImageEmbedding) -> dict[str, Any]:
    return {name: _tensor(name, feature) for name, feature in embedding.features.items()}


def _tensor(name: str, array):
    # A numpy array not by DLPack: Triton renames a used capsule, and numpy reports the new name as an error.
    return pb_utils.Tensor(name, array) if isinstance(array, np.ndarray) else pb_utils.Tensor.from_dlpack(name, array)
