"""The Python models' own functions, as Triton runs them, for the limit and the baselines."""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
_MODELS = ("sam3_preprocess", "sam3_embedding_cache", "sam3_mask_postprocess")
sys.path.extend(str(PROJECT / "model_repository" / model / "1") for model in _MODELS)

from image_preprocess import decode, to_network_pixels  # noqa: E402
from mask_postprocess import to_mask, to_png  # noqa: E402
from prompts import Prompt, lay_out  # noqa: E402

__all__ = ["PROJECT", "Prompt", "decode", "lay_out", "to_mask", "to_network_pixels", "to_png"]
