"""Splits the prompts of a file among several runs, by photo, so that each photo is encoded once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_LARGEST_COUNT = 100_000


@dataclass(frozen=True)
class Shard:
    """One of `count` parts, numbered from 0."""

    index: int
    count: int

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: there is no such shard.
        """
        if not 1 <= self.count <= _LARGEST_COUNT:
            raise ValueError(f"the number of shards must be from 1 to {_LARGEST_COUNT}, not {self.count}")
        if not 0 <= self.index < self.count:
            raise ValueError(f"shards are numbered from 0 to {self.count - 1}, not {self.index}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads "3/16".

        Raises:
            ValueError: the text has another form, or there is no such shard.
        """
        index, slash, count = text.partition("/")
        if not (slash and all(part.isascii() and part.isdigit() for part in (index, count))):
            raise ValueError(f"expected K/N, such as 3/16 for the shard 3 of 16, not {text!r}")
        return cls(int(index), int(count))

    @property
    def suffix(self) -> str:
        """Part of the names of this shard's files."""
        return f"-{self.index:05}-of-{self.count:05}"


def photo_number(image: str) -> int:
    """A number below 2**64 that depends on a photo's path alone: its remainder is the photo's shard."""
    return int.from_bytes(hashlib.sha256(image.encode("utf-8", "surrogateescape")).digest()[:8], "big")
