"""The files in docker/ agree with the commands, settings and files that they refer to."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from repository import PROJECT
from sam3_gateway import settings
from sam3_gateway.app import create_app
from sam3_gateway.backend import connect
from sam3_server import cli as serve_cli
from sam3_server.ports import GRPC_PORT, HEALTH_PORT, HTTP_PORT, METRICS_PORT
from sam3_triton import cli
from sam3_triton.doctor.server import KNOWN_GOOD

DOCKER = PROJECT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
TRITON, GATEWAY = DOCKER / "triton.Dockerfile", DOCKER / "gateway.Dockerfile"
# The two images install these.
DISTRIBUTIONS = ("sam3-triton", "sam3-triton-gateway", "sam3-triton-server")
BIN = Path(sys.executable).parent


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Keyword and rest of each instruction."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def arguments(dockerfile: Path, keyword: str) -> list[str]:
    return [rest for found, rest in instructions(dockerfile) if found == keyword]


def health_command(dockerfile: Path) -> list[str]:
    (rest,) = arguments(dockerfile, "HEALTHCHECK")
    return json.loads(rest.split("CMD ")[1])


def compose(*names: str) -> dict[str, Any]:
    """The services that Docker Compose reads from the files, with defaults filled in."""
    files = [part for name in names for part in ("-f", str(DOCKER / name))]
    command = [str(BIN / "docker-compose"), *files, "config", "--format", "json"]
    result = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, timeout=60)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["services"]


def pins() -> dict[str, str]:
    lines = [line for line in (DOCKER / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in pairs}  # anything but name==version fails here


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_linter_finds_nothing(dockerfile: Path) -> None:
    result = subprocess.run([BIN / "hadolint", dockerfile], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_not_ignored(dockerfile: Path) -> None:
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    copies = arguments(dockerfile, "COPY")
    assert copies
    for copy in copies:
        for source in copy.split()[:-1]:
            assert (PROJECT / source).exists(), source
            assert f"!{source.split('/')[0]}" in lines, f"{source} is ignored"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_nothing_runs_as_root(dockerfile: Path) -> None:
    user = None
    for keyword, rest in instructions(dockerfile):
        if keyword == "FROM" and "/" in rest:
            user = "0"
        user = rest if keyword == "USER" else user
    assert user not in (None, "0")


def test_the_release_is_the_one_that_doctor_knows() -> None:
    (release,) = [rest.split("=")[1] for rest in arguments(TRITON, "ARG") if rest.startswith("RELEASE=")]
    assert f"{release} is Triton {KNOWN_GOOD}," in TRITON.read_text()


def test_pins_are_what_the_project_allows() -> None:
    found = pins()
    lines = [line for one in DISTRIBUTIONS for line in requires(one) or []]
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        if name in found:
            assert found[name] in requirement.specifier, str(requirement)
    for install in [*arguments(TRITON, "RUN"), *arguments(GATEWAY, "RUN")]:
        assert ("pip install" in install) == ("pip install --no-cache-dir -c constraints.txt" in install)


def test_everything_that_pip_installs_is_pinned() -> None:
    found, waiting = set(), [(one, ("",)) for one in DISTRIBUTIONS]
    while waiting:
        name, extras = waiting.pop()
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # only for other Python versions
            continue
        for requirement in map(Requirement, lines):
            key = canonicalize_name(requirement.name)
            wanted = not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
            if wanted and key not in found and key not in DISTRIBUTIONS:
                found.add(key)
                waiting.append((key, ("", *requirement.extras)))
    assert {"numpy", "fastapi", "grpcio", "isal", "psutil"} <= found
    assert found <= pins().keys()
    installed = [
        word
        for rest in arguments(TRITON, "RUN")
        if "pip install" in rest
        for word in rest.split("&&")[0].split("constraints.txt")[-1].split()
    ]
    assert "cupy-cuda12x" in installed
    assert {word for word in installed if re.match(r"[a-z]", word)} <= pins().keys()


def test_ports_are_those_of_the_commands() -> None:
    assert arguments(TRITON, "EXPOSE") == [f"{HTTP_PORT} {GRPC_PORT} {METRICS_PORT} {HEALTH_PORT}"]
    assert arguments(GATEWAY, "EXPOSE") == [str(settings.DEFAULT_PORT)]


def test_the_health_check_is_a_command_of_sam3() -> None:
    command = health_command(TRITON)
    assert command[0] == "sam3"
    cli._parser().parse_args(command[1:])


def test_the_gateways_health_check_asks_a_path_of_the_gateway() -> None:
    options = settings.Settings()
    paths = create_app(options, connect(options)).openapi()["paths"].keys()
    (checked,) = re.findall(rf"http://127.0.0.1:{settings.DEFAULT_PORT}(/[\w/]+)", health_command(GATEWAY)[-1])
    assert checked in paths


def test_the_gateway_takes_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    command = json.loads(arguments(GATEWAY, "CMD")[0])
    assert command[:1] == ["sam3-gateway"]
    for name, value in compose("compose.yaml")["gateway"]["environment"].items():
        assert name.removeprefix("SAM3_GATEWAY_").lower() in settings.Settings.model_fields
        if value is not None:
            monkeypatch.setenv(name, value)
    read = settings.read(command[1:])
    assert read.host == "0.0.0.0"
    assert read.triton == f"triton:{GRPC_PORT}"


@pytest.mark.parametrize("names", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")], ids=len)
def test_the_server_chooses_the_profile_unless_a_variable_names_one(names: tuple[str, ...], tmp_path: Path) -> None:
    triton = compose(*names)["triton"]
    assert not triton.get("command")  # the image's own
    assert triton["environment"]["SAM3_PROFILE"] is None  # passed on if it is set
    command = tmp_path / "sam3-serve"
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    command.chmod(0o755)
    for profile in (None, "tensorrt"):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", **({"SAM3_PROFILE": profile} if profile else {})}
        shell = ["sh", str(DOCKER / "serve.sh"), "--replicas=2"]
        given = subprocess.run(shell, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
        options = serve_cli._parser().parse_args(given)
        assert (options.profile, options.replicas) == (profile, 2)


@pytest.mark.parametrize("names", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")], ids=len)
def test_only_the_gateway_is_published_on_this_machine_alone(names: tuple[str, ...]) -> None:
    services = compose(*names)
    assert "ports" not in services["triton"]
    (port,) = services["gateway"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8001", settings.DEFAULT_PORT)
    assert services["gateway"]["depends_on"]["triton"]["condition"] == "service_healthy"


@pytest.mark.parametrize("names", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")], ids=len)
def test_the_repository_is_mounted_read_only_where_the_server_looks(names: tuple[str, ...]) -> None:
    (mount,) = [mount for mount in compose(*names)["triton"]["volumes"] if mount["type"] == "bind"]
    assert mount["read_only"]
    assert Path(mount["source"]) == PROJECT / "model_repository"
    target = mount["target"]
    assert target in health_command(TRITON)
    words = shlex.split((DOCKER / "serve.sh").read_text(), comments=True)
    assert words[words.index("--repository") + 1] == target


def test_the_targets_that_are_built_are_there() -> None:
    stages = [rest.split(" AS ")[1] for rest in arguments(TRITON, "FROM")]
    for names, target in ((("compose.yaml",), "cpu"), (("compose.yaml", "compose.gpu.yaml"), "gpu")):
        assert compose(*names)["triton"]["build"]["target"] == target
        assert target in stages
