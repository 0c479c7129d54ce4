"""An engine for containers with stand-ins for base images; see tests/containers.py."""

from __future__ import annotations

import fcntl

import containers
import pytest


@pytest.fixture(scope="session")
def podman() -> containers.Podman:
    """An engine with a storage of its own."""
    if reason := containers.missing():
        pytest.skip(reason)
    return containers.Podman(containers.storage())


@pytest.fixture(scope="session")
def standins(podman: containers.Podman) -> containers.Podman:
    """The engine with stand-ins for the base images of docker/."""
    with (podman.folder / "build.lock").open("w") as lock:  # other workers would build the same
        fcntl.flock(lock, fcntl.LOCK_EX)
        containers.build_standins(podman)
    return podman


@pytest.fixture(scope="session")
def images(standins: containers.Podman) -> containers.Podman:
    """The engine with `sam3-triton:cpu` and `sam3-gateway`, built on the stand-ins."""
    with (standins.folder / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        containers.build_images(standins)
    return standins
