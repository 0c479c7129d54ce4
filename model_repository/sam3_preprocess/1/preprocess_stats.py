"""Counts what the model does with images. Independent of Triton."""

from __future__ import annotations

from dataclasses import dataclass

from published_counts import counter


@dataclass
class PreprocessStats:
    """Counts since the start; each field's metadata holds its `help` text. Refused images are not counted."""

    images: int = counter("Images decoded and resized")
    decode_seconds: float = counter("Seconds spent decoding them")
    resize_seconds: float = counter("Seconds spent resizing them")

    def add(self, decode_seconds: float, resize_seconds: float) -> None:
        """Counts an image."""
        self.images += 1
        self.decode_seconds += decode_seconds
        self.resize_seconds += resize_seconds
