"""`sam3 batch`: a folder of photos and a file of prompts in, a folder of masks and a report out."""

from sam3_triton.batch.command import Options, run_batch

__all__ = ["Options", "run_batch"]
