"""The Triton model around `image_preprocess`, which leaves the usual JPEGs to DALI (docs/dali.md)."""

from __future__ import annotations

import io
import json
import traceback
from pathlib import Path

import numpy as np
import picture_formats
import triton_python_backend_utils as pb_utils
from image_preprocess import ImageError, decode, to_network_pixels
from network_size import NetworkSizeError, read_network_size
from PIL import Image

_DALI = "sam3_preprocess_dali"
_TENSORS = ("PIXELS", "ORIGINAL_SIZE")


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
            encoded = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy().reshape(-1)[0]
            outputs = self._by_dali(encoded) if _is_usual_jpeg(encoded, self.formats) else None
            if outputs is None:  # another format, or damage that DALI does not repair
                outputs = self._by_cpu(encoded)
            return pb_utils.InferenceResponse([outputs[name] for name in request.requested_output_names()])
        except ImageError as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            return _failure("sam3_preprocess failed; the server's log says why", pb_utils.TritonError.INTERNAL)

    def _by_dali(self, encoded: bytes) -> dict | None:
        inputs = [pb_utils.Tensor("IMAGE_BYTES", np.frombuffer(encoded, np.uint8)[None])]
        response = pb_utils.InferenceRequest(
            model_name=_DALI, requested_output_names=list(_TENSORS), inputs=inputs
        ).exec()
        if response.has_error():
            pb_utils.Logger.log_warn(f"DALI refused an image: {response.error().message()}")
            return None
        outputs = {tensor.name(): tensor for tensor in response.output_tensors()}
        size = outputs["ORIGINAL_SIZE"].as_numpy().reshape(2)  # DALI makes it on the CPU
        return {"PIXELS": outputs["PIXELS"], "ORIGINAL_SIZE": pb_utils.Tensor("ORIGINAL_SIZE", size)}

    def _by_cpu(self, encoded: bytes) -> dict:
        image = decode(encoded, self.formats)
        arrays = to_network_pixels(image, self.size), np.array(image.shape[:2], np.int32)
        return {name: pb_utils.Tensor(name, array) for name, array in zip(_TENSORS, arrays, strict=True)}


def _is_usual_jpeg(encoded: bytes, formats: tuple[str, ...]) -> bool:
    """Whether the header is that of a JPEG of three colours, and within Pillow's limit of pixels."""
    if "JPEG" not in formats:
        return False
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as image:
            return image.mode == "RGB"
    except Exception:  # Pillow raises errors of many kinds on damaged headers; `decode` names the fault
        return False


def _failure(message: str, code: int):
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, code))
