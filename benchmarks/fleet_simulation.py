"""Simulates a fleet: clicks that arrive at random, a proxy, and replicas with a cache, an encoder and a decoder."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.routing import Policy, key_of


@dataclass(frozen=True)
class Service:
    """Seconds that one replica takes, with nothing else to do.

    Attributes:
        click: its decoder is busy with a click.
        encode: its encoder is busy with an image.
        overhead: every click takes this, too, but it keeps nothing busy.
    """

    click: float
    encode: float
    overhead: float


@dataclass(frozen=True)
class Traffic:
    """Clicks: a Poisson process over images whose popularity follows Zipf's law.

    Attributes:
        images: number of images.
        exponent: the n-th most popular image gets a share proportional to n ** -exponent.
        rate: clicks a second.
        clicks: number of clicks.
        hot: share of clicks that go to one further image.
    """

    images: int
    exponent: float
    rate: float
    clicks: int
    hot: float = 0.0

    def shares(self) -> np.ndarray:
        """Each image's share of the clicks, most popular first: [images], or [images + 1] with the hot one in front."""
        weights = np.arange(1.0, self.images + 1) ** -self.exponent
        shares = weights / weights.sum()
        return np.concatenate([[self.hot], (1 - self.hot) * shares]) if self.hot else shares


@dataclass(frozen=True)
class Outcome:
    """What happened to each click, in the order of arrival: [clicks]."""

    arrivals: np.ndarray
    latencies: np.ndarray
    hits: np.ndarray
    replicas: np.ndarray


@dataclass
class _Replica:
    capacity: int
    cache: OrderedDict[int, None] = field(default_factory=OrderedDict)
    encoding: dict[int, list[int]] = field(default_factory=dict)
    encodes: deque[int] = field(default_factory=deque)
    decodes: deque[int] = field(default_factory=deque)
    clicks: set[int] = field(default_factory=set)
    life: int = 0

    def keep(self, image: int) -> None:
        self.cache[image] = None
        self.cache.move_to_end(image)
        if len(self.cache) > self.capacity:
            self.cache.popitem(last=False)


class Fleet:
    """A run of the simulation. Least recently used images are dropped; equal misses wait for one encode."""

    def __init__(self, policy: Policy, replicas: int, capacity: int, service: Service) -> None:
        """
        Args:
            capacity: images that each replica's cache holds.
        """
        self._policy = policy
        self._service = service
        self._replicas = [_Replica(capacity) for _ in range(replicas)]
        self._in_flight = [0] * replicas
        self._up = list(range(replicas))
        self._events: list[tuple[float, int, int, int, int, int]] = []
        self._order = itertools.count()

    def run(self, traffic: Traffic, seed: int, down: tuple[int, float, float] | None = None) -> Outcome:
        """Runs all clicks.

        Args:
            down: a replica, and the seconds when it is lost and when it is back with an empty cache. Its clicks are
                sent to other replicas at once.
        """
        random = np.random.default_rng(seed)
        shares = traffic.shares()
        self._keys = [key_of(hashlib.sha256(f"image {one}".encode()).hexdigest()) for one in range(len(shares))]
        self._images = random.choice(len(shares), traffic.clicks, p=shares).tolist()
        arrivals = np.cumsum(random.exponential(1 / traffic.rate, traffic.clicks))
        self._done = np.full(traffic.clicks, np.nan)
        self._hits = np.zeros(traffic.clicks, bool)
        self._chosen = np.zeros(traffic.clicks, int)
        self._fill()
        changes = [] if down is None else [(down[1], down[0], False), (down[2], down[0], True)]
        for click, now in enumerate(arrivals.tolist()):
            while changes and changes[0][0] <= now:
                when, replica, back = changes.pop(0)
                self._work_until(when)
                self._change(when, replica, back)
            self._work_until(now)
            self._send(now, click)
        self._work_until(np.inf)
        return Outcome(arrivals, self._done - arrivals + self._service.overhead, self._hits, self._chosen)

    def _fill(self) -> None:
        # The caches begin full, with the most popular images. Filling them by clicks would take millions of clicks.
        for image in reversed(range(len(self._keys))):
            for _ in self._replicas if len(self._up) > 1 else (0,):
                chosen = self._policy.choose(self._keys[image], self._up, self._in_flight)
                self._replicas[chosen].keep(image)

    def _send(self, now: float, click: int) -> None:
        image = self._images[click]
        chosen = self._policy.choose(self._keys[image], self._up, self._in_flight)
        self._in_flight[chosen] += 1
        self._chosen[click] = chosen
        replica = self._replicas[chosen]
        replica.clicks.add(click)
        self._hits[click] = image in replica.cache
        if image in replica.cache:
            replica.cache.move_to_end(image)
            self._decode(now, chosen, click)
        elif image in replica.encoding:
            replica.encoding[image].append(click)
        else:
            replica.encoding[image] = [click]
            replica.encodes.append(image)
            if len(replica.encodes) == 1:
                self._later(now + self._service.encode, chosen, image, is_encode=True)

    def _decode(self, now: float, chosen: int, click: int) -> None:
        replica = self._replicas[chosen]
        replica.decodes.append(click)
        if len(replica.decodes) == 1:
            self._later(now + self._service.click, chosen, click, is_encode=False)

    def _later(self, when: float, chosen: int, what: int, is_encode: bool) -> None:
        life = self._replicas[chosen].life
        heapq.heappush(self._events, (when, next(self._order), chosen, life, what, int(is_encode)))

    def _work_until(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            now, _, chosen, life, what, is_encode = heapq.heappop(self._events)
            replica = self._replicas[chosen]
            if replica.life != life:  # the replica was lost
                continue
            if is_encode:
                replica.keep(what)
                replica.encodes.popleft()
                if replica.encodes:
                    self._later(now + self._service.encode, chosen, replica.encodes[0], is_encode=True)
                for click in replica.encoding.pop(what):
                    self._decode(now, chosen, click)
            else:
                replica.decodes.popleft()
                if replica.decodes:
                    self._later(now + self._service.click, chosen, replica.decodes[0], is_encode=False)
                replica.clicks.remove(what)
                self._in_flight[chosen] -= 1
                self._done[what] = now

    def _change(self, now: float, chosen: int, back: bool) -> None:
        if back:
            self._up = sorted([*self._up, chosen])
            return
        self._up.remove(chosen)
        lost = self._replicas[chosen]
        self._replicas[chosen] = _Replica(lost.capacity, life=lost.life + 1)
        self._in_flight[chosen] = 0
        for click in sorted(lost.clicks):
            self._send(now, click)


def che_hit_ratio(shares: Sequence[float] | np.ndarray, capacity: int) -> float:
    """The hit ratio of one LRU cache by Che's approximation: an image is in it for a time that is the same for all."""
    popularity = np.asarray(shares)
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        if (1 - np.exp(-popularity * middle)).sum() < capacity:
            low = middle
        else:
            high = middle
    return float((popularity * (1 - np.exp(-popularity * low))).sum())
