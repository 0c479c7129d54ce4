"""The Triton model around `mask_postprocess`."""

from __future__ import annotations

import os
import traceback
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils
from binary_masks import to_png
from mask_postprocess import clamp, to_mask

# Threads of an instance for the masks of one request. Each holds a resized float32 mask: 256 MB for 64 million pixels.
_MOST_THREADS = 4


class TritonPythonModel:
    """`MASK_LOGITS`, `SCORES` and `ORIGINAL_SIZE` to `MASKS`, `SCORES` and `LOW_RES_LOGITS` of an image's objects."""

    def initialize(self, args) -> None:
        """Limits OpenCV to one thread: instances, and the masks of a request, use the cores."""
        cv2.setNumThreads(1)
        self.threads = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="mask")

    def execute(self, requests) -> list:
        """One response for each request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        try:
            if not _input(request, "HAS_PROMPT")[0]:
                message = "no prompt: give POINTS, BOXES or a MASK_INPUT"
                return _failure(message, pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(self._outputs(request))
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            return _failure("sam3_mask_postprocess failed; the server's log says why", pb_utils.TritonError.INTERNAL)

    def _outputs(self, request) -> list:
        logits, scores, original_size = (_input(request, name) for name in ("MASK_LOGITS", "SCORES", "ORIGINAL_SIZE"))
        height, width = original_size.tolist()
        makers = {
            "MASKS": lambda: self._pngs(logits[0], (height, width)),
            "SCORES": lambda: scores[0],
            "LOW_RES_LOGITS": lambda: clamp(logits[0]),
        }
        return [pb_utils.Tensor(name, makers[name]()) for name in request.requested_output_names()]

    def _pngs(self, logits: np.ndarray, original_size: tuple[int, int]) -> np.ndarray:
        """Logits [P, M, h, w] as PNG files, object [P, M]."""
        masks = logits.reshape(-1, *logits.shape[2:])
        each = self.threads.map if len(masks) > 1 else map  # switching to a thread would delay a single mask
        pngs = np.empty(len(masks), np.object_)
        pngs[:] = list(each(lambda mask: to_png(to_mask(mask, original_size)), masks))
        return pngs.reshape(logits.shape[:2])


def _failure(message: str, code: int):
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, code))


def _input(request, name: str) -> np.ndarray:
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()
