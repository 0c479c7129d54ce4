"""The concept half of the demonstration checkpoint through the real server, in fp32 and in fp16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from repository import PROJECT, copy_repository, link_artifacts, move_to_cpu
from sam3_demo import finding
from sam3_demo.concepts.evaluate import measure
from sam3_demo.concepts.finder import Finder
from sam3_demo.concepts.report import BARS
from sam3_demo.concepts.served import ServedFinder
from sam3_export.checkpoint import load
from sam3_export.demo import CHECKPOINT
from sam3_triton import Sam3Client

SCENES = 16
# So few scenes have about 40 instances of each kind of query.
ROOM = 0.12


@pytest.fixture(scope="module")
def expected() -> dict[str, float]:
    """The figures of the PyTorch modules."""
    return measure(Finder(load(str(CHECKPOINT), CHECKPOINT.with_suffix(".json"), concepts=True)), SCENES)


@pytest.fixture(scope="module")
def address(serve: Callable, exported_demo_concepts: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """The gRPC address of a server with a profile; those for GPUs are moved to the CPU."""
    folder = tmp_path_factory.mktemp("on-cpu")
    repository = copy_repository(folder)
    link_artifacts(exported_demo_concepts, repository)
    move_to_cpu(folder / "ensemble_configs" / "gpu")
    return lambda profile: serve(repository, profile).grpc_url


@pytest.mark.parametrize(("profile", "room"), [("cpu", 0.01), ("torchscript", 0.01), ("gpu", 0.04)])
def test_what_is_served_finds_as_much(address: Callable, expected: dict[str, float], profile: str, room: float) -> None:
    with Sam3Client(address(profile)) as client:
        figures = measure(ServedFinder(client), SCENES)
    assert figures == pytest.approx(expected, abs=room)
    for name, bar in BARS.items():
        assert figures[name] >= bar - ROOM, name


def test_the_demo_finds_what_it_asks_for(address: Callable) -> None:
    with Sam3Client(address("cpu")) as client:
        named = client.find(PROJECT / finding.SCENE, text=finding.PHRASE)
        alike = client.find(PROJECT / finding.SCENE, boxes=[finding.EXAMPLE])
        other = client.find(PROJECT / finding.SCENE, text="dog")
    # Two black stars; the example is an orange one, of which there are two.
    picture = np.asarray(Image.open(PROJECT / finding.SCENE).convert("RGB"), np.float32)
    assert len(named.scores) == len(alike.scores) == 2
    for mask in named.masks:
        assert picture[mask].mean() < 90
    for mask in alike.masks:
        red, _, blue = picture[mask].mean(axis=0)
        assert red > 1.5 * blue
    assert not len(other.scores)


def test_fp16_is_another_artifact(address: Callable) -> None:
    scores = []
    for profile in ("cpu", "gpu"):
        with Sam3Client(address(profile)) as client:
            scores.append(client.find(PROJECT / finding.SCENE, text=finding.PHRASE).scores)
    assert 1e-5 < np.abs(scores[0] - scores[1]).max() < 1e-2
