"""Which replica a proxy chooses for a click: HAProxy's consistent hashing, and what it is compared with."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

# Of HAProxy: points on the ring for each unit of a server's weight, and how far apart two servers' numbers are.
_POINTS_PER_WEIGHT = 16
_NUMBERS_PER_SERVER = 256 * _POINTS_PER_WEIGHT
_WORD = 0xFFFFFFFF


class Policy(Protocol):
    """Chooses a replica. Replicas are numbered from 0; `up` are those that serve."""

    def choose(self, key: int, up: Sequence[int], in_flight: Sequence[int]) -> int:
        """
        Args:
            key: `key_of` the image's id.
            up: the replicas that serve, ascending.
            in_flight: each replica's clicks under way, of all replicas.
        """


class RoundRobin:
    """Each replica in turn, whatever the image."""

    def __init__(self) -> None:
        self._turns = itertools.count()

    def choose(self, key: int, up: Sequence[int], in_flight: Sequence[int]) -> int:
        return up[next(self._turns) % len(up)]


class Modulo:
    """The remainder of the key by the number of replicas that serve: `hash-type map-based` with equal weights."""

    def choose(self, key: int, up: Sequence[int], in_flight: Sequence[int]) -> int:
        return up[key % len(up)]


class Consistent:
    """HAProxy's `hash-type consistent`: the replica of the nearest point on a ring, which has points of each replica.

    With `balance_factor` (`hash-balance-factor`, percent) a replica is skipped while it has more than that share of the
    average number of clicks under way: consistent hashing with bounded loads.
    """

    def __init__(self, weight: int, balance_factor: int = 0) -> None:
        """
        Args:
            weight: the servers' `weight`, 1 to 256. Server ids are the replicas' numbers plus 1.
            balance_factor: 0 for no bound.
        """
        self._weight = weight
        self._factor = balance_factor
        self._rings: dict[tuple[int, ...], tuple[list[int], list[int]]] = {}

    def choose(self, key: int, up: Sequence[int], in_flight: Sequence[int]) -> int:
        points, owners = self._ring(tuple(up))
        place = bisect_left(points, key) % len(points)
        before = place - 1
        if (key - points[before]) & _WORD <= (points[place] - key) & _WORD:
            place = before % len(points)
        if self._factor:
            slots = -(-(sum(in_flight[one] for one in up) + 1) * self._factor // 100)
            for step in range(len(points)):
                owner = owners[(place + step) % len(points)]
                if in_flight[owner] < max(1, self._slots(slots, up, owner)):
                    return owner
        return owners[place]

    def _slots(self, slots: int, up: Sequence[int], owner: int) -> int:
        """A replica's part of the slots; the remainder goes to some of the replicas."""
        whole, rest = divmod(slots, len(up))
        rank = up.index(owner)
        return whole + (rank + 1) * rest // len(up) - rank * rest // len(up)

    def _ring(self, up: tuple[int, ...]) -> tuple[list[int], list[int]]:
        if up not in self._rings:
            count = self._weight * _POINTS_PER_WEIGHT
            pairs = sorted(
                (avalanche((one + 1) * _NUMBERS_PER_SERVER + number), one) for one in up for number in range(count)
            )
            self._rings[up] = [point for point, _ in pairs], [one for _, one in pairs]
        return self._rings[up]


def key_of(image_id: str) -> int:
    """What HAProxy's `hash-type consistent sdbm avalanche` makes of a header's value."""
    key = 0
    for byte in image_id.encode():
        key = (byte + (key << 6) + (key << 16) - key) & _WORD
    return avalanche(key)


def avalanche(number: int) -> int:
    """Bob Jenkins' 32-bit integer hash, then HAProxy's multiplication."""
    number = ((number + 0x7ED55D16) + (number << 12)) & _WORD
    number = (number ^ 0xC761C23C) ^ (number >> 19)
    number = ((number + 0x165667B1) + (number << 5)) & _WORD
    number = ((number + 0xD3A2646C) ^ (number << 9)) & _WORD
    number = ((number + 0xFD7046C5) + (number << 3)) & _WORD
    number = (number ^ 0xB55A4F09) ^ (number >> 16)
    return (number * 3221225473) & _WORD
