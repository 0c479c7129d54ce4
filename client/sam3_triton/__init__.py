"""Client of SAM 3 on Triton: an image and a click in, masks out."""

from sam3_triton.client import Sam3Client
from sam3_triton.errors import (
    DeadlineExceededError,
    ImageNotCachedError,
    InvalidInputError,
    PredictionError,
    Sam3Error,
    ServerUnavailableError,
)
from sam3_triton.masks import get_mask_from_sam, overlay, save_mask
from sam3_triton.predictions import Prediction

__all__ = [
    "DeadlineExceededError",
    "ImageNotCachedError",
    "InvalidInputError",
    "Prediction",
    "PredictionError",
    "Sam3Client",
    "Sam3Error",
    "ServerUnavailableError",
    "get_mask_from_sam",
    "overlay",
    "save_mask",
]
