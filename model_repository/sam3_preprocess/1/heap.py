"""Keeps freed memory in the process. Independent of Triton."""

from __future__ import annotations

import ctypes

# glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST_MMAP_THRESHOLD = 32 << 20  # glibc refuses more
# What images of 16 megapixels need besides `image_preprocess.SCRATCH_BYTES`, between decoding and the answer.
KEPT_BYTES = 64 << 20


def keep_freed_memory(most: int) -> None:
    """Lets the next allocations reuse up to `most` freed bytes, instead of returning them to the system.

    Otherwise the system provides and clears the same pages again for each image, which took a quarter of the time of
    decoding and resizing 12 megapixels. Allocations of more than 32 MiB are still returned. Only glibc has such a
    setting; elsewhere nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MOST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, most)
