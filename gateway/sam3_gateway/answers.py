"""The answers of /v1/, as models for OpenAPI."""

from __future__ import annotations

import base64
import io
from enum import Enum
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field
from sam3_triton import Prediction

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
