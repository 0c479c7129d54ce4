"""`sam3 batch`: turns a folder of photos and a file of prompts into a folder of masks and a report."""

from sam3_triton.batch.command import Options, run_batch

__all__ = ["Options", "run_batch"]
