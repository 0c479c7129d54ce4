"""The baseline: a FastAPI service that encodes the image of every request, as most services do.

With --last-image it keeps the features of the last image. It runs in PyTorch, with the same weights, functions and
number of threads as the system that it is compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import uvicorn
from binary_masks import to_png
from fastapi import FastAPI, File, Form, Response
from image_preprocess import decode, to_network_pixels
from mask_postprocess import to_mask
from sam3_export import checkpoint as checkpoints
from sam3_export.components.click_prompts import FOREGROUND, PADDING
from sam3_export.components.image_encoder import ImageEncoder
from sam3_export.components.mask_decoder import MaskDecoder

Embedding = tuple[tuple[torch.Tensor, ...], tuple[int, int]]


class Predictor:
    """`set_image` and `predict` over the PyTorch modules, one caller at a time."""

    def __init__(self, loaded: checkpoints.Checkpoint, keep_last: bool) -> None:
        self.side = loaded.architecture.image_size
        self.low_res = loaded.architecture.low_res_size
        self.encoder = ImageEncoder(loaded.model).eval()
        self.decoder = MaskDecoder(loaded.model).eval()
        self.keep_last = keep_last
        self.last: tuple[bytes, Embedding] | None = None
        self.requests = self.encodes = 0
        self.lock = threading.Lock()

    @torch.inference_mode()
    def mask(self, image: bytes, points: list[list[float]]) -> bytes:
        """The best mask as a PNG, of foreground points (x, y) in pixels."""
        with self.lock:
            self.requests += 1
            features, size = self._set_image(image)
            fractions = np.array(points, np.float32) / np.array(size[::-1], np.float32)
            coords = torch.from_numpy(np.concatenate([fractions, np.zeros((1, 2), np.float32)]))[None]
            labels = torch.tensor([[FOREGROUND] * len(points) + [PADDING]], dtype=torch.int32)
            no_mask = torch.zeros(1, 1, self.low_res, self.low_res), torch.tensor([[False]])
            single = torch.tensor([[0]], dtype=torch.int32)
            logits, _ = self.decoder(*features, coords[:, None], labels[:, None], *no_mask, single)
            return to_png(to_mask(logits[0, 0, 0].numpy(), size))

    def _set_image(self, image: bytes) -> Embedding:
        if self.last is not None and self.last[0] == image:
            return self.last[1]
        picture = decode(image)
        fine, middle, embedding = self.encoder(torch.from_numpy(to_network_pixels(picture, self.side).copy()))
        self.encodes += 1
        found = (embedding, fine, middle), (picture.shape[0], picture.shape[1])
        if self.keep_last:
            self.last = image, found
        return found


def create_app(predictor: Predictor) -> FastAPI:
    """`POST /predict/mask` as the gateway has it, and `GET /health` with the counts of requests and encodes."""
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, int]:
        return {"encodes": predictor.encodes, "requests": predictor.requests}

    @app.post("/predict/mask")
    def predict(image: Annotated[bytes, File()], points: Annotated[str, Form()]) -> Response:
        return Response(predictor.mask(image, json.loads(points)), media_type="image/png")

    return app


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="as for sam3-export")
    parser.add_argument("--config", type=Path, help="as for sam3-export")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="PyTorch's (default: all cores)")
    parser.add_argument("--last-image", action="store_true", help="keep the features of the last image")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    predictor = Predictor(checkpoints.load(options.checkpoint, options.config), options.last_image)
    uvicorn.run(create_app(predictor), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
