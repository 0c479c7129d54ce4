"""The answers of /v1/, as models for OpenAPI."""

from __future__ import annotations

import base64
import io
from enum import Enum
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field
from sam3_triton import Instances, Prediction

from sam3_gateway import forms, mask_formats

_ID = Field(description="sha256 of the image file; send it instead of the image next time", examples=["9f86d0…"])
_HIT = Field(description="true if Triton had cached the image's embedding, so that the encoder was skipped")
_MILLISECONDS = Field(
    description="by stage: read (receive the request), inspect (the image's header and id), triton, encode (write the "
    "answer); and their total",
    examples=[{"read": 0.4, "inspect": 0.6, "triton": 11.2, "encode": 0.3, "total": 13.1}],
)


class Fault(BaseModel):
    """An error."""

    detail: str = Field(description="the fault, in one line")


class MaskFormat(str, Enum):
    """The format of the masks."""

    png = "png"
    rle = "rle"
    polygons = "polygons"


class InstanceMaskFormat(str, Enum):
    """The format of the masks, or none."""

    png = "png"
    rle = "rle"
    polygons = "polygons"
    none = "none"


class PngMask(BaseModel):
    """An 8-bit grey PNG, 0 and 255, the size of the image."""

    format: Literal["png"] = "png"
    data: str = Field(description="base64")


class RleMask(BaseModel):
    """COCO's compressed run-length encoding."""

    format: Literal["rle"] = "rle"
    size: Annotated[list[int], Field(description="height, width")]
    counts: str


class Polygon(BaseModel):
    """A connected region. Its corners are corners of pixels: pixel (x, y) is the square (x, y) to (x + 1, y + 1)."""

    exterior: list[list[int]] = Field(description="[[x, y], …] along the region's outer edge, four or more, clockwise")
    holes: list[list[list[int]]] = Field(description="a ring around each hole, counter-clockwise")


class PolygonMask(BaseModel):
    """One polygon for each connected region, largest first."""

    format: Literal["polygons"] = "polygons"
    polygons: list[Polygon]


class Logits(BaseModel):
    """Low-resolution logits. Send them back as `mask_input` to refine the mask."""

    shape: list[int] = Field(description="height, width: 288, 288 for SAM 3")
    data: str = Field(description="base64 of little-endian float32, row by row")


class Candidate(BaseModel):
    """One mask and its score."""

    score: float = Field(
        description="the model's own estimate of the mask's IoU: 0 to 1 with SAM 3, any number with SAM 3.1"
    )
    mask: Annotated[PngMask | RleMask | PolygonMask, Field(discriminator="format")]
    low_res_logits: Logits | None = Field(None, description="only if `logits` was true")


class ImageAnswer(BaseModel):
    """The image that is now cached."""

    image_id: str = _ID
    width: int = Field(description="in pixels as stored; EXIF orientation is not applied")
    height: int
    cache_hit: bool = _HIT
    milliseconds: dict[str, float] = _MILLISECONDS


class ObjectAnswer(BaseModel):
    """The candidates of one of several objects, best score first."""

    candidates: list[Candidate] = Field(description="one, or three if `multimask` was true")


class PredictionAnswer(BaseModel):
    """The candidates of one object, best score first, or those of each of several objects."""

    image_id: str = _ID
    width: int
    height: int
    cache_hit: bool = _HIT
    candidates: list[Candidate] | None = Field(None, description="of one object: one, or three if `multimask` was true")
    objects: list[ObjectAnswer] | None = Field(None, description="of several objects, in the order of the request")
    milliseconds: dict[str, float] = _MILLISECONDS


class Instance(BaseModel):
    """One instance of a concept."""

    score: float = Field(
        description="the probability of this instance times that of the concept, 0 to 1", examples=[0.91]
    )
    box: list[float] = Field(
        description="x0, y0, x1, y1 in pixels. It may overhang the image",
        min_length=4,
        max_length=4,
        examples=[[102.4, 80.1, 310.9, 262.7]],
    )
    mask: Annotated[PngMask | RleMask | PolygonMask, Field(discriminator="format")] | None = Field(
        description="null if `masks` was none"
    )


class ConceptResult(BaseModel):
    """The instances of one concept."""

    text: str | None = Field(description="of the request; null if it had only boxes", examples=["cup"])
    presence: float = Field(
        description="the model's own probability that the concept is in the image, 0 to 1", examples=[0.98]
    )
    truncated: bool = Field(description="true if the text was too long and was cut at 32 tokens", examples=[False])
    total: int = Field(description="instances above the threshold, before `max_instances` and `nms_iou`", examples=[1])
    instances: list[Instance] = Field(description="best score first; empty if there is none")


class ConceptsAnswer(BaseModel):
    """The instances of each concept, in the order of the request."""

    image_id: str = _ID
    width: int = Field(description="in pixels as stored; EXIF orientation is not applied", examples=[600])
    height: int = Field(examples=[400])
    cache_hit: bool = _HIT
    results: list[ConceptResult] = Field(description="one for each text, or one if there were only boxes")
    milliseconds: dict[str, float] = _MILLISECONDS


class ConceptsServed(BaseModel):
    """Whether Triton has concept prompts."""

    served: bool = Field(description="false if the model was exported without concept prompts", examples=[True])


def candidates(prediction: Prediction, masks: MaskFormat, logits: bool) -> list[Candidate]:
    """Returns a prediction's masks in the requested format. Takes milliseconds for large masks."""
    return [
        Candidate(
            score=float(score),
            mask=_mask(png, masks),
            low_res_logits=Logits(**forms.show_logits(prediction.low_res_logits[rank])) if logits else None,
        )
        for rank, (png, score) in enumerate(zip(prediction.mask_pngs, prediction.scores, strict=True))
    ]


def concept_result(found: Instances, masks: InstanceMaskFormat) -> ConceptResult:
    """Returns a concept's instances, with masks in the requested format. Takes milliseconds for each large mask."""
    pngs = (None,) * len(found.scores) if masks is InstanceMaskFormat.none else found.mask_pngs
    return ConceptResult(
        text=found.text,
        presence=found.presence,
        truncated=found.truncated,
        total=found.total,
        instances=[
            Instance(score=score, box=box, mask=None if png is None else _mask(png, MaskFormat(masks.value)))
            for score, box, png in zip(found.scores.tolist(), found.boxes.tolist(), pngs, strict=True)
        ],
    )


def size(prediction: Prediction) -> tuple[int, int]:
    """Returns the image's width and height, in pixels."""
    return Image.open(io.BytesIO(prediction.mask_pngs[0])).size


def _mask(png: bytes, masks: MaskFormat) -> PngMask | RleMask | PolygonMask:
    if masks is MaskFormat.png:
        return PngMask(data=base64.b64encode(png).decode())
    pixels = np.asarray(Image.open(io.BytesIO(png))) > 0
    if masks is MaskFormat.rle:
        return RleMask(**mask_formats.to_coco_rle(pixels))
    return PolygonMask(polygons=[Polygon(**polygon) for polygon in mask_formats.to_polygons(pixels)])
