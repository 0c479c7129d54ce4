"""The Triton model around `image_preprocess`."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import numpy as np
import picture_formats
import triton_python_backend_utils as pb_utils
from image_preprocess import ImageError, decode, to_network_pixels
from network_size import NetworkSizeError, read_network_size


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

    def execute(self, requests) -> list:
        """One response for each request; a bad image fails only its own."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        try:
            return pb_utils.InferenceResponse(self._outputs(request))
        except ImageError as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            return _failure("sam3_preprocess failed; the server's log says why", pb_utils.TritonError.INTERNAL)

    def _outputs(self, request) -> list:
        image = decode(pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy().reshape(-1)[0], self.formats)
        outputs = {
            "PIXELS": to_network_pixels(image, self.size),
            "ORIGINAL_SIZE": np.array([image.height, image.width], np.int32),
        }
        return [pb_utils.Tensor(name, outputs[name]) for name in request.requested_output_names()]


def _failure(message: str, code: int):
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, code))
