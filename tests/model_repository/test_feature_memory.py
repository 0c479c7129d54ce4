"""The cache's memory. A library that records its calls stands in for cupy."""

from __future__ import annotations

import sys
import weakref
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from feature_memory import FeatureMemory, RecentlySent


class OnGpu:
    """A tensor that claims to be on a GPU."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # kDLCUDA


class FakeCupy(ModuleType):
    """The parts of cupy that the cache uses, built on numpy."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.calls: list[str] = []
        stream = SimpleNamespace(synchronize=lambda: self.calls.append("synchronize"))
        self.cuda = SimpleNamespace(get_current_stream=lambda: stream)

    def from_dlpack(self, tensor: OnGpu) -> np.ndarray:
        self.calls.append("from_dlpack")
        return tensor.array

    def array(self, array: np.ndarray) -> np.ndarray:
        self.calls.append("upload")
        return array.copy()


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return fake


def test_host_memory_copies() -> None:
    memory = FeatureMemory("host")
    tensor = np.arange(6, dtype=np.float32).reshape(1, 6)
    kept = memory.keep(tensor)
    tensor[:] = 0
    assert not memory.on_gpu
    assert kept.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert kept.flags.writeable
    assert kept.nbytes == 24


def test_gpu_memory_copies_on_the_gpu_and_waits_for_the_copy(cupy: FakeCupy) -> None:
    memory = FeatureMemory("gpu")
    tensor = OnGpu(np.ones(4, np.float32))
    kept = memory.keep(tensor)
    tensor.array[:] = 0
    assert memory.on_gpu
    assert kept.tolist() == [1, 1, 1, 1]
    assert cupy.calls == ["from_dlpack", "synchronize"]


def test_gpu_memory_takes_a_tensor_that_lies_in_host_memory(cupy: FakeCupy) -> None:
    assert FeatureMemory("gpu").keep(np.ones(4, np.float32)).tolist() == [1, 1, 1, 1]
    assert cupy.calls == ["upload"]


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="memory must be one of host, gpu, not 'disk'"):
        FeatureMemory("disk")


class Tensor:
    """Something that a weak reference can point at."""


def test_tensors_are_made_once_and_those_sent_longest_ago_are_released_first() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def make(embedding: object) -> dict[str, Tensor]:
        assert sum(reference() is not None for reference in alive) < 2
        tensor = Tensor()
        alive.append(weakref.ref(tensor))
        return {"IMAGE_EMBEDDING": tensor}

    recent = RecentlySent(make, images=2)
    first, second, third = object(), object(), object()

    def number(embedding: object) -> int:
        """The index of the embedding's tensors among those made so far."""
        tensor = recent.tensors(embedding)["IMAGE_EMBEDDING"]
        return [reference() for reference in alive].index(tensor)

    assert [number(one) for one in (first, second, first, second, first)] == [0, 1, 0, 1, 0]
    assert number(third) == 2  # in the place of the second
    assert number(first) == 0
    assert number(second) == 3  # in the place of the third
    assert len(alive) == 4
