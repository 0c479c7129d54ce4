"""Triton's side of the prompts."""

from __future__ import annotations

import json
import traceback
from dataclasses import fields
from pathlib import Path

import triton_python_backend_utils as pb_utils
from prompts import Prompt, PromptError, lay_out

# Written by sam3-export beside the artifacts, from the folder of this model.
EXPORT_REPORT = Path("..") / "sam3" / "exports" / "current" / "export.json"
# That of sam3_export.spec.
INTERFACE = 2


class TritonPythonModel:
    """`POINTS`, `LABELS`, `BOX`, `MASK_INPUT`, `MULTIMASK` to the decoder's inputs."""

    def initialize(self, args) -> None:
        """Makes sure that the artifacts are of this version: others would be refused in obscure words, or answer with
        wrong masks."""
        report = Path(args["model_repository"]) / EXPORT_REPORT
        if not report.is_file():
            raise pb_utils.TritonModelException(f"{report} is missing: run sam3-export into this repository")
        if json.loads(report.read_text()).get("interface") != INTERFACE:
            raise pb_utils.TritonModelException(
                f"{report}: exported by another version of this project; run sam3-export"
            )

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
        return [pb_utils.Tensor(field.name.upper(), getattr(layout, field.name)) for field in fields(layout)]


def _failure(message: str, code: int):
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, code))


def _optional(request, name: str):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()
