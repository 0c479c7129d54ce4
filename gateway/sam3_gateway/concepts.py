"""Concept prompts: every instance of what words or example boxes describe."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from sam3_triton.concepts import DEFAULT_THRESHOLD

from sam3_gateway.answers import ConceptsAnswer, ConceptsServed, Fault, InstanceMaskFormat, concept_result
from sam3_gateway.backend import Backend
from sam3_gateway.concept_fields import MAX_BOXES, MAX_CHARACTERS, MAX_TEXTS, ConceptFields
from sam3_gateway.contract import FAULTS, IMAGE
from sam3_gateway.readiness import Recent
from sam3_gateway.segmenter import Segmenter
from sam3_gateway.telemetry import Record

# An empty field means the same as a missing one, because HTML forms send empty fields.
_TEXTS = (
    f"JSON list of noun phrases, at most {MAX_TEXTS} with at most {MAX_CHARACTERS} characters each; or one phrase as it"
    " is. A text is cut at 32 tokens; `truncated` says so. Give texts, boxes or both"
)
_BOXES = (
    f"JSON [[x0, y0, x1, y1], …], at most {MAX_BOXES} examples in pixels of the image, origin top left. They apply to "
    "every text"
)
_LABELS = "JSON list with 1 or true (more like this), 0 or false (not this) for each box. Default: all 1"
_MAX_INSTANCES = "Return at most this many instances for each text, best first. Default: all"
_NMS_IOU = (
    "Drop an instance if the IoU of its mask with a better one's is above this: above 0 and at most 1. Default: keep "
    "all"
)


def routes(segmenter: Segmenter, backend: Backend) -> APIRouter:
    """Returns the routes of /v1/concepts."""
    router = APIRouter(prefix="/v1", tags=["v1"])
    served = Recent(backend.serves_concepts)

    @router.get("/concepts", responses={status: FAULTS[status] for status in (500, 503)})
    async def concepts_served() -> ConceptsServed:
        """Reports whether Triton has concept prompts, which depends on what was exported."""
        return ConceptsServed(served=await served.get())

    @router.post(
        "/concepts",
        responses={
            404: {
                "model": Fault,
                "description": "The image with this id is not cached, or no longer: send the image. Or Triton has no "
                "concept prompts (see GET): `detail` says how to export them.",
            },
            **FAULTS,
        },
    )
    async def find(
        request: Request,
        image: Annotated[UploadFile | None, File(description=f"{IMAGE}. Send this or `image_id`.")] = None,
        image_id: Annotated[str, Form(description="The `image_id` of an earlier answer, instead of the image")] = "",
        texts: Annotated[str, Form(description=_TEXTS, examples=['["cup", "red car"]'])] = "",
        boxes: Annotated[str, Form(description=_BOXES, examples=["[[90, 20, 480, 390]]"])] = "",
        box_labels: Annotated[str, Form(description=_LABELS, examples=["[1]"])] = "",
        threshold: Annotated[
            str, Form(description="Return instances whose score is above this, 0 to 1", examples=["0.5"])
        ] = str(DEFAULT_THRESHOLD),
        max_instances: Annotated[str, Form(description=_MAX_INSTANCES, examples=["10"])] = "",
        nms_iou: Annotated[str, Form(description=_NMS_IOU, examples=["0.9"])] = "",
        masks: Annotated[
            InstanceMaskFormat,
            Form(description="The format of the masks; none leaves them out, and saves drawing them"),
        ] = InstanceMaskFormat.png,
    ) -> ConceptsAnswer:
        """Finds every instance of each text, of the example boxes, or of both; best score first."""
        fields = ConceptFields(texts, boxes, box_labels, threshold, max_instances, nms_iou, masks)
        prompts = fields.prompts()
        chosen = await segmenter.choose(request, image, image_id)
        found = await segmenter.find(request, chosen, prompts)
        record = Record.of(request)
        with record.stage("encode"):
            results = await asyncio.to_thread(lambda: [concept_result(each, masks) for each in found])
        width, height = found[0].image_size
        return ConceptsAnswer(
            image_id=found[0].image_id,
            width=width,
            height=height,
            cache_hit=found[0].cache_hit,
            results=results,
            milliseconds=record.so_far(),
        )

    return router
