"""Benchmarks: `python -m benchmarks --help`."""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

# The limit and the baselines call the functions of the Python models.
_CONCEPTS = Path("sam3") / "concepts"
for _model in (
    "sam3_preprocess",
    "sam3_embedding_cache",
    "sam3_mask_postprocess",
    _CONCEPTS / "sam3_text_cache",
    _CONCEPTS / "sam3_concept_postprocess",
):
    sys.path.append(str(PROJECT / "model_repository" / _model / "1"))
