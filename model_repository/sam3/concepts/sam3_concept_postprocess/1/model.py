"""The Triton model around `concept_postprocess`."""

from __future__ import annotations

import os
import traceback
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils
from binary_masks import to_binary, to_png
from concept_postprocess import select, to_pixels

# Threads of an instance for the masks of one request. Each holds a resized float32 mask: 256 MB for 64 million pixels.
_MOST_THREADS = 4


class TritonPythonModel:
    """What the detector found in an image to the instances above the threshold."""

    def initialize(self, args) -> None:
        """Limits OpenCV to one thread: instances, and the masks of a request, use the cores."""
        cv2.setNumThreads(1)
        self.threads = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="mask")

    def execute(self, requests) -> list:
        """One response for each request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        try:
            if not _input(request, "HAS_CONCEPT")[0]:
                return _failure("no prompt: give TEXT, BOXES or both", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(self._outputs(request))
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            return _failure("sam3_concept_postprocess failed; the server's log says why", pb_utils.TritonError.INTERNAL)

    def _outputs(self, request) -> list:
        scores, boxes, logits = (_input(request, name)[0] for name in ("SCORES", "BOXES", "MASK_LOGITS"))
        size = tuple(_input(request, "ORIGINAL_SIZE").tolist())
        threshold, most, iou = (_input(request, name)[0] for name in ("THRESHOLD", "MAX_INSTANCES", "NMS_IOU"))
        ranks, total = select(scores, logits, threshold, most, iou)
        drawn = ranks if _input(request, "WITH_MASKS")[0] else ranks[:0]
        makers = {
            "MASKS": lambda: self._pngs(logits, drawn, size),
            "SCORES": lambda: scores[ranks],
            "INSTANCE_BOXES": lambda: to_pixels(boxes[ranks], size),
            "PRESENCE": lambda: _input(request, "PRESENCE")[0],
            "TOTAL": lambda: np.array([total], np.int32),
            # An ensemble's output must not be the input of a step, too, so the size passes through.
            "ORIGINAL_SIZE": lambda: _input(request, "ORIGINAL_SIZE"),
        }
        return [pb_utils.Tensor(name, makers[name]()) for name in request.requested_output_names()]

    def _pngs(self, logits: np.ndarray, ranks: np.ndarray, original_size: tuple[int, int]) -> np.ndarray:
        """The masks of some of the logits [K, h, w] as PNG files, object [len(ranks)]."""
        each = self.threads.map if len(ranks) > 1 else map  # switching to a thread would delay a single mask
        pngs = np.empty(len(ranks), np.object_)
        pngs[:] = list(each(lambda rank: to_png(to_binary(logits[rank].astype(np.float32), original_size)), ranks))
        return pngs


def _failure(message: str, code: int):
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, code))


def _input(request, name: str) -> np.ndarray:
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()
