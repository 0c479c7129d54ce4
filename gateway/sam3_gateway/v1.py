"""The full API: candidates with scores, boxes, refinement, prefetch, clicks by image id."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile

from sam3_gateway import forms
from sam3_gateway.answers import Fault, ImageAnswer, MaskFormat, ObjectAnswer, PredictionAnswer, candidates, size
from sam3_gateway.contract import FAULTS, IMAGE
from sam3_gateway.objects import PromptFields
from sam3_gateway.segmenter import Segmenter
from sam3_gateway.telemetry import Record

# An empty field means the same as a missing one, because HTML forms send empty fields.
_POINTS = "JSON [[x, y], …], in pixels of the image, origin top left. For several objects: [[[x, y], …], …]"
_LABELS = (
    "JSON list with 1 or true (foreground), 0 or false (background) for each point. Default: all foreground. For "
    "several objects: a list for each"
)
_BOX = "JSON [x1, y1, x2, y2] in pixels. It may overhang the image"
_BOXES = "JSON [[x1, y1, x2, y2], …]: a box for each of several objects. The answer has `objects`"
_MASK_INPUT = (
    "The `low_res_logits` of an earlier candidate, unchanged, as JSON: refines that mask. For several objects: a list"
)


def routes(segmenter: Segmenter, max_points: int) -> APIRouter:
    """Returns the routes under /v1/."""
    router = APIRouter(prefix="/v1", tags=["v1"])

    @router.post("/images", responses=FAULTS)
    async def set_image(request: Request, image: Annotated[UploadFile, File(description=IMAGE)]) -> ImageAnswer:
        """Encodes and caches an image, so that the first click on it is as fast as later ones."""
        upload = await segmenter.inspect(request, image)
        cache_hit = await segmenter.set_image(request, upload)
        return ImageAnswer(
            image_id=upload.image.image_id,
            width=upload.size[0],
            height=upload.size[1],
            cache_hit=cache_hit,
            milliseconds=Record.of(request).so_far(),
        )

    @router.post(
        "/predict",
        response_model_exclude_none=True,
        responses={
            404: {"model": Fault, "description": "The image with this id is not cached, or no longer: send the image."},
            **FAULTS,
        },
    )
    async def predict(
        request: Request,
        image: Annotated[UploadFile | None, File(description=f"{IMAGE}. Send this or `image_id`.")] = None,
        image_id: Annotated[str, Form(description="The `image_id` of an earlier answer, instead of the image")] = "",
        points: Annotated[str, Form(description=_POINTS, examples=["[[300, 200]]"])] = "",
        labels: Annotated[str, Form(description=_LABELS)] = "",
        box: Annotated[str, Form(description=_BOX)] = "",
        boxes: Annotated[str, Form(description=_BOXES)] = "",
        mask_input: Annotated[str, Form(description=_MASK_INPUT)] = "",
        multimask: Annotated[str, Form(description="true returns three candidates instead of one mask")] = "false",
        masks: Annotated[MaskFormat, Form(description="The format of the masks")] = MaskFormat.png,
        logits: Annotated[str, Form(description="true adds low_res_logits to each candidate")] = "false",
    ) -> PredictionAnswer:
        """Returns all candidates with their scores, best first: of one object, or of each of several."""
        with_logits = forms.parse_flag("logits", logits)
        fields = PromptFields(points, labels, box, boxes, mask_input, multimask)
        several = fields.are_of_several()
        prompts = fields.prompts(max_points) if several else [fields.prompt(max_points)]
        chosen = await segmenter.choose(request, image, image_id)
        predictions = await segmenter.segment(request, chosen, prompts, logits=with_logits)
        record = Record.of(request)
        with record.stage("encode"):
            width, height = size(predictions[0])
            found = await asyncio.to_thread(
                lambda: [candidates(prediction, masks, with_logits) for prediction in predictions]
            )
        return PredictionAnswer(
            image_id=predictions[0].image_id,
            width=width,
            height=height,
            cache_hit=predictions[0].cache_hit,
            candidates=None if several else found[0],
            objects=[ObjectAnswer(candidates=own) for own in found] if several else None,
            milliseconds=record.so_far(),
        )

    return router
