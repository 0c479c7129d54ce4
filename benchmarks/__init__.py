"""Benchmarks: `python -m benchmarks --help`."""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

# The limit and the baselines call the functions of the Python models.
for _model in ("sam3_preprocess", "sam3_embedding_cache", "sam3_mask_postprocess"):
    sys.path.append(str(PROJECT / "model_repository" / _model / "1"))
