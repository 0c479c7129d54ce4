"""The Triton model around `image_preprocess`."""

from __future__ import annotations

import json
import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import picture_formats
import triton_python_backend_utils as pb_utils
from antialiased_resize import simd
from heap import KEPT_BYTES, keep_freed_memory
from image_preprocess import SCRATCH_BYTES, ImageError, decode, to_network_pixels
from network_size import NetworkSizeError, read_network_size
from periodic import Periodic
from preprocess_stats import PreprocessStats
from published_counts import MetricSpec, PublishedCounts

# How often the metrics follow. Each increment is an exchange of messages with Triton.
_PUBLISH_S = 0.25


class TritonPythonModel:
    """`IMAGE` to `PIXELS` and `ORIGINAL_SIZE` (height, width)."""

    def initialize(self, args) -> None:
        """Reads the network's resolution from the export's report, and the formats from the model's parameters."""
        try:
            self.size = read_network_size(Path(args["model_repository"]))
            parameters = json.loads(args["model_config"])["parameters"]
            self.formats = picture_formats.parse(parameters["picture_formats"]["string_value"])
        except (NetworkSizeError, ValueError) as error:
            raise pb_utils.TritonModelException(str(error)) from error
        if simd is None:
            pb_utils.Logger.log_info("Pillow resizes images, in three times the time: cykooz-resizer is not installed")
        keep_freed_memory(KEPT_BYTES)
        self.scratch = np.empty(SCRATCH_BYTES, np.uint8)
        self.stats = PreprocessStats()
        self.instance = args["model_instance_name"]
        self.families: list = []  # a family that is not referenced disappears from the metrics
        self.counts = PublishedCounts("sam3_preprocess_", PreprocessStats, self._metric)
        self.publishing = Periodic(self._publish, _PUBLISH_S, pb_utils.Logger.log_error)

    def execute(self, requests) -> list:
        """One response for each request; a bad image fails only its own."""
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """Ends the thread that publishes the metrics."""
        self.publishing.stop()

    def _respond(self, request):
        try:
            return pb_utils.InferenceResponse(self._outputs(request))
        except ImageError as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            return _failure("sam3_preprocess failed; the server's log says why", pb_utils.TritonError.INTERNAL)

    def _outputs(self, request) -> list:
        encoded = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy().reshape(-1)[0]
        started = time.perf_counter()
        image = decode(encoded, self.formats, self.scratch)
        decoded = time.perf_counter()
        outputs = {"PIXELS": to_network_pixels(image, self.size), "ORIGINAL_SIZE": np.array(image.shape[:2], np.int32)}
        self.stats.add(decoded - started, time.perf_counter() - decoded)
        return [pb_utils.Tensor(name, outputs[name]) for name in request.requested_output_names()]

    def _publish(self) -> None:
        self.counts.publish(replace(self.stats))

    def _metric(self, spec: MetricSpec):
        kind = pb_utils.MetricFamily.GAUGE if spec.is_gauge else pb_utils.MetricFamily.COUNTER
        self.families.append(pb_utils.MetricFamily(name=spec.name, description=spec.help, kind=kind))
        return self.families[-1].Metric(labels={"model": "sam3_preprocess", "model_instance": self.instance})


def _failure(message: str, code: int):
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, code))
