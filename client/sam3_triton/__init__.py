"""Client for SAM 3 on Triton: send an image and a click, words or example boxes, get masks."""

from sam3_triton.async_client import AsyncSam3Client, LatestWins
from sam3_triton.client import Sam3Client
from sam3_triton.concepts import ConceptPrompt
from sam3_triton.errors import (
    ClosedClientError,
    ConceptsNotServedError,
    DeadlineExceededError,
    ImageNotCachedError,
    InvalidInputError,
    InvalidUrlError,
    MissingExtraError,
    NoServerError,
    PredictionError,
    Sam3Error,
    ServerUnavailableError,
    SupersededError,
)
from sam3_triton.images import CachedImage, EncodedImage
from sam3_triton.instance_overlay import overlay_instances
from sam3_triton.instances import Instances
from sam3_triton.masks import get_mask_from_sam, overlay, save_mask
from sam3_triton.predictions import Prediction, Prefetch
from sam3_triton.prompts import Prompt
from sam3_triton.served_model import ServedModel

__all__ = [
    "AsyncSam3Client",
    "CachedImage",
    "ClosedClientError",
    "ConceptPrompt",
    "ConceptsNotServedError",
    "DeadlineExceededError",
    "EncodedImage",
    "ImageNotCachedError",
    "Instances",
    "InvalidInputError",
    "InvalidUrlError",
    "LatestWins",
    "MissingExtraError",
    "NoServerError",
    "Prediction",
    "PredictionError",
    "Prefetch",
    "Prompt",
    "Sam3Client",
    "Sam3Error",
    "ServedModel",
    "ServerUnavailableError",
    "SupersededError",
    "get_mask_from_sam",
    "overlay",
    "overlay_instances",
    "save_mask",
]
