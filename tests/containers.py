"""Podman for tests, and stand-ins for the base images that come from registries.

Fixtures in tests/docker/conftest.py: `podman` is an engine with a storage of its own, so that nothing here meets the
user's images, containers and networks. `standins` has the engine hold stand-ins under the names of the real images:

    docker.io/library/python:3.11-slim-bookworm     Debian 12's own Python 3.11
    nvcr.io/nvidia/tritonserver:24.10-py3           Triton 2.51 from a wheel, with the ONNX Runtime stand-in backend
    docker.io/library/haproxy:3.2                   Debian's HAProxy 2.6

`images` adds what docker/ builds from them: `sam3-triton:cpu` and `sam3-gateway`.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from repository import PROJECT
from sam3_server import installation

RECIPE = PROJECT / "tests" / "docker" / "standins"
# Stage of the recipe -> the name of the image that it stands in for.
STANDINS = {
    "python": "docker.io/library/python:3.11-slim-bookworm",
    "tritonserver": "nvcr.io/nvidia/tritonserver:24.10-py3",
    "haproxy": "docker.io/library/haproxy:3.2",
}
# A minimal Debian 12 with Python. Like official images, it keeps no cache of package lists.
BASE = (
    "--variant=minbase",
    "--include=ca-certificates,libpython3.11,python3,python3-pip,python3-venv",
    '--aptopt=Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";',
    "bookworm",
)
# Debian's packages with the commands and helpers that the tests need.
NEEDS = {
    "podman": ("podman",),
    "runc": ("runc", "crun"),
    "mmdebstrap": ("mmdebstrap",),
    "iptables": ("iptables",),
    "netavark": ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"),
    "aardvark-dns": ("/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns"),
    "catatonit": ("catatonit", "/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit"),
}
CERTIFICATES = Path("/etc/ssl/certs")


def missing() -> str | None:
    """What these tests need and this machine lacks, as one sentence; None if nothing."""
    packages = [package for package, commands in NEEDS.items() if not any(map(shutil.which, commands))]
    if packages:
        return f"no {', '.join(packages)}; on Debian: apt-get install {' '.join(packages)}"
    return None if os.geteuid() == 0 else "making base images and networks needs root"


class Podman:
    """Runs podman with images, containers and networks in `folder`, which later runs use again."""

    def __init__(self, folder: Path) -> None:
        # Sockets lie here, whose paths must be short; podman expects to lose it at a reboot.
        run = Path(tempfile.gettempdir()) / f"sam3-podman-{os.geteuid()}"
        for path in (folder, run):
            path.mkdir(parents=True, exist_ok=True)
        settings, storage = folder / "containers.conf", folder / "storage.conf"
        _write(settings, _settings(folder, run))
        _write(storage, f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/storage"\nrunroot = "{run}/storage"\n')
        self.folder = folder
        self.environment = {**os.environ, "CONTAINERS_CONF": str(settings), "CONTAINERS_STORAGE_CONF": str(storage)}

    def __call__(self, *arguments: str | Path, timeout_s: float = 120) -> str:
        """Runs `podman` with the arguments; returns what it prints, without the last line break.

        Raises:
            AssertionError: podman failed; the message has what it wrote.
        """
        result = self.try_(*arguments, timeout_s=timeout_s)
        assert result.returncode == 0, f"podman {' '.join(map(str, arguments))}:\n{result.stdout}{result.stderr}"
        return result.stdout.rstrip("\n")

    def try_(self, *arguments: str | Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """The same without the check."""
        command = ["podman", *map(str, arguments)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout_s)

    def build(self, dockerfile: Path, context: Path, tag: str, *arguments: str) -> None:
        """Builds an image in Docker's format, because podman's own has no health checks; later runs use its layers."""
        if CERTIFICATES.is_dir():  # of this machine's network, which may have an authority of its own
            arguments = (*arguments, f"--volume={CERTIFICATES}:{CERTIFICATES}:ro")
        flags = ("--format=docker", "--network=host", "--pull-never", "--layers", f"--tag={tag}")
        self("build", *flags, *arguments, f"--file={dockerfile}", context, timeout_s=900)

    @contextmanager
    def network(self) -> Iterator[str]:
        """A network in which containers find each other by name; removed with its containers."""
        name = f"sam3-{uuid.uuid4().hex[:8]}"
        self("network", "create", name)
        try:
            yield name
        finally:
            self.try_("network", "rm", "--force", "--time=0", name)


def storage() -> Path:
    """The folder of the storage: `~/.cache/sam3-tests/podman`."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sam3-tests" / "podman"


def build_standins(podman: Podman) -> None:
    """Builds the stand-ins, with the real images' names; takes seconds if an earlier run has built them."""
    # Each change of the sources leaves images of some hundred megabytes behind.
    podman("image", "prune", "--force", "--filter", "until=168h", timeout_s=600)
    base = _base(podman)
    versions = [f"--build-arg={name.upper()}={version(package)}" for name, package in _WHEELS.items()]
    backends = f"--build-context=backends={Path(installation.__file__).with_name('backends')}"
    for stage, tag in STANDINS.items():
        arguments = (f"--target={stage}", f"--build-arg=BASE={base}", *versions, backends)
        podman.build(RECIPE / "Containerfile", RECIPE, tag, *arguments)


_WHEELS = {"pytriton": "nvidia-pytriton", "onnxruntime": "onnxruntime"}


def _base(podman: Podman) -> str:
    """The image that `BASE` describes, made once for each description."""
    tag = f"localhost/sam3-standin-base:{hashlib.sha256(repr(BASE).encode()).hexdigest()[:12]}"
    if podman.try_("image", "exists", tag).returncode:
        with tempfile.TemporaryDirectory(dir=podman.folder) as folder:
            archive = Path(folder) / "base.tar"
            command = ["mmdebstrap", *BASE, archive]
            result = subprocess.run(command, capture_output=True, text=True, timeout=600)
            assert result.returncode == 0, result.stderr
            podman("import", archive, tag)
    return tag


def build_images(podman: Podman) -> None:
    """Builds `sam3-triton:cpu` and `sam3-gateway` from docker/, on the stand-ins."""
    docker = PROJECT / "docker"
    podman.build(docker / "triton.Dockerfile", PROJECT, "sam3-triton:cpu", "--target=cpu")
    podman.build(docker / "gateway.Dockerfile", PROJECT, "sam3-gateway")


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 180) -> None:
    """Waits until the condition holds.

    Raises:
        AssertionError: it did not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.5)


def _settings(folder: Path, run: Path) -> str:
    # Podman's defaults are more than this process may grant.
    limits = {"nofile": (resource.RLIMIT_NOFILE, 16384), "nproc": (resource.RLIMIT_NPROC, 4096)}
    granted = {name: min(_hard(kind), enough) for name, (kind, enough) in limits.items()}
    ulimits = ", ".join(f'"{name}={value}:{value}"' for name, value in granted.items())
    runtime = 'runtime = "runc"' if shutil.which("runc") else ""  # crun refuses machines with both versions of cgroups
    return f"""\
[containers]
default_ulimits = [{ulimits}]

[engine]
{runtime}
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"  # locks in shared memory would be those of the user's containers
static_dir = "{folder}/static"
volume_path = "{folder}/volumes"
tmp_dir = "{run}/tmp"

[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""


def _hard(kind: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def _write(path: Path, text: str) -> None:
    """Replaces a file at once, because other workers read it."""
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(text)
    new.replace(path)
