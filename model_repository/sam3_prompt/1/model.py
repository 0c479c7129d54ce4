"""Triton's side of the prompts."""

from __future__ import annotations

import traceback
from dataclasses import asdict

import triton_python_backend_utils as pb_utils
from prompts import Prompt, PromptError, lay_out


class TritonPythonModel:
    """`POINTS`, `LABELS`, `BOX`, `MASK_INPUT`, `MULTIMASK` to the decoder's inputs."""

    def execute(self, requests) -> list:
        """One response a request; a bad prompt fails alone."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        try:
            return pb_utils.InferenceResponse(self._outputs(request))
        except PromptError as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            return _failure("sam3_prompt failed; the server's log says why", pb_utils.TritonError.INTERNAL)

    def _outputs(self, request) -> list:
        multimask = _optional(request, "MULTIMASK")
        prompt = Prompt(
            points=_optional(request, "POINTS"),
            labels=_optional(request, "LABELS"),
            box=_optional(request, "BOX"),
            mask_input=_optional(request, "MASK_INPUT"),
            multimask=multimask is not None and bool(multimask[0]),
        )
        original_size, low_res_size = (
            tuple(_optional(request, name).tolist()) for name in ("ORIGINAL_SIZE", "LOW_RES_SIZE")
        )
        layout = lay_out(prompt, original_size, low_res_size)
        return [pb_utils.Tensor(name.upper(), value) for name, value in asdict(layout).items()]


def _failure(message: str, code: int):
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, code))


def _optional(request, name: str):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()
