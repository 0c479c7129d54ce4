"""Runs a checkpoint on a picture and prompts, with the modules that are exported and served."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sam3_export.checkpoint import Checkpoint
from sam3_export.components.image_encoder import ImageEncoder
from sam3_export.components.mask_decoder import MaskDecoder
from torch import Tensor
from torch.nn import functional as F

from sam3_demo.prompts import Prompts

_MAX_LOGIT = 32.0  # low-resolution logits are returned, and given back as mask input, clamped to this


@dataclass(frozen=True)
class Answer:
    """Masks bool [M, H, W] at the picture's size, scores fp32 [M] and logits fp32 [M, h, w], best first."""

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    logits: Tensor


class Predictor:
    """Answers prompts on one picture at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.size = checkpoint.architecture.image_size
        self.low_res = checkpoint.architecture.low_res_size
        self.encoder = ImageEncoder(checkpoint.model).eval()
        self.decoder = MaskDecoder(checkpoint.model).eval()

    @torch.inference_mode()
    def look_at(self, image: NDArray[np.uint8]) -> None:
        """Encodes a picture, uint8 [H, W, 3], RGB, for the prompts that follow."""
        self.shape = image.shape[:2]
        shrunk = cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA)
        fine, middle, embedding = self.encoder(torch.from_numpy(shrunk)[None])
        self.features = embedding, fine, middle

    @torch.inference_mode()
    def answer(self, prompts: Prompts, multimask: bool = False, mask: Tensor | None = None) -> Answer:
        """The answer to one target's prompts; `mask` fp32 [h, w] are the logits of an earlier answer."""
        coords, labels = prompts.padded()
        given = torch.zeros(self.low_res, self.low_res) if mask is None else mask
        tokens = torch.tensor([[1, 2, 3] if multimask else [0]], dtype=torch.int32)
        has_mask = torch.tensor([[mask is not None]])
        prompt = coords[:, None], labels[:, None], given[None, None], has_mask, tokens
        (logits,), (scores,) = self.decoder(*self.features, *prompt)
        large = F.interpolate(logits, self.shape, mode="bilinear", align_corners=False)
        return Answer((large[0] > 0).numpy(), scores[0].numpy(), logits[0].clamp(-_MAX_LOGIT, _MAX_LOGIT))
