"""The contract with existing callers, POST /predict/mask and GET /health, and probes for containers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from sam3_triton import Prompt

from sam3_gateway import forms
from sam3_gateway.answers import Fault
from sam3_gateway.picture_formats import DEFAULT
from sam3_gateway.readiness import Readiness
from sam3_gateway.segmenter import Segmenter

IMAGE = f"An image file in one of the accepted formats. By default: {DEFAULT.replace(',', ', ')}"
_POINTS = "JSON [[x, y], …] or flat [x, y, …], in pixels of the image, origin top left"
_LABELS = "JSON list, or one value: 1 or true foreground, 0 or false background. Default: all foreground"
FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "The image or the prompt is invalid; `detail` names the fault."},
    401: {"model": Fault, "description": "The API key is missing or wrong, if the gateway has one."},
    408: {"model": Fault, "description": "The request took too long to arrive."},
    413: {"model": Fault, "description": "The request is too large, or its image has too many pixels."},
    415: {"model": Fault, "description": "The image is in none of the accepted formats."},
    500: {"model": Fault, "description": "The prediction failed; the gateway's log says why."},
    503: {
        "model": Fault,
        "description": "Triton is unreachable, not ready or too busy, or the gateway is too busy: try again later.",
    },
}


def routes(segmenter: Segmenter, readiness: Readiness, max_points: int) -> APIRouter:
    """Returns the contract's routes."""
    router = APIRouter()

    @router.get("/health", tags=["health"])
    async def health() -> dict[str, Any]:
        """Reports whether Triton answers a click, and which model does. Always 200."""
        model = await readiness.check()
        return {"status": "running", "model_loaded": model is not None, "model": model and asdict(model)}

    @router.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """Answers while the gateway runs: a container's liveness probe."""
        return {"status": "running"}

    @router.get("/health/ready", tags=["health"], responses={503: {"description": "Triton does not answer a click."}})
    async def ready() -> JSONResponse:
        """Reports whether Triton answers a click: a container's readiness probe."""
        is_ready = await readiness.check() is not None
        return JSONResponse({"model_loaded": is_ready}, 200 if is_ready else 503)

    @router.post(
        "/predict/mask",
        tags=["masks"],
        response_class=Response,
        responses={
            200: {"content": {"image/png": {}}, "description": "The best mask: one 8-bit channel, 0 and 255."},
            **FAULTS,
        },
    )
    async def predict_mask(
        request: Request,
        image: Annotated[UploadFile, File(description=IMAGE)],
        points: Annotated[str, Form(description=_POINTS, examples=["[[300, 200]]"])],
        labels: Annotated[str, Form(description=_LABELS)] = "",
        multimask: Annotated[
            str, Form(description="true computes three candidates and answers with the best")
        ] = "false",
    ) -> Response:
        """Returns the best mask for the clicks, the size of the image."""
        prompt = Prompt.of(
            points=forms.parse_points(points, max_points),
            labels=forms.parse_labels(labels) if labels else None,
            multimask=forms.parse_flag("multimask", multimask),
            points_outside=True,  # the contract refuses no coordinates
        )
        upload = await segmenter.inspect(request, image)
        (prediction,) = await segmenter.segment(request, upload, [prompt], logits=False)
        return Response(prediction.mask_pngs[0], media_type="image/png")

    return router
