"""Starting and stopping, through the command that users type."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from processes import models_with_processes, serve_command
from repository import components_of, copy_repository, free_ports, link_artifacts
from sam3_server import Ports, TritonServer, gpus


def fails(repository: Path, *arguments: str, ports: list[int] | None = None) -> str:
    """Runs a start that must fail, and returns the last line of its standard error."""
    result = subprocess.run(
        serve_command(repository, ports or free_ports(3), *arguments), capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert "Traceback" not in result.stderr.split("sam3-serve: ")[-1]
    assert lines[-1].startswith("sam3-serve: ")
    assert "\\n" not in lines[-1]
    return lines[-1]


def shared_memory_of(triton: int) -> str:
    """How the names of a server's shared memory segments begin."""
    arguments = Path(f"/proc/{triton}/cmdline").read_text().split("\0")
    (prefix,) = [one.split("shm-region-prefix-name=")[1] for one in arguments if "shm-region-prefix-name=" in one]
    return prefix


def processes_of_group(group: int) -> list[str]:
    listing = subprocess.run(["ps", "-eo", "pgid=,comm="], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if line.split()[0] == str(group)]


def contents(folder: Path) -> list[str]:
    """All paths below a folder, except Python's caches."""
    return sorted(str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts)


def serves(triton: int, repository: Path) -> bool:
    return f"--model-repository={repository}" in psutil.Process(triton).cmdline()


def test_a_missing_artifact_is_told(tmp_path: Path) -> None:
    assert "no artifact is installed; run sam3-export" in fails(copy_repository(tmp_path))


def test_a_folder_that_is_no_repository_is_told(tmp_path: Path) -> None:
    assert "not a model repository" in fails(tmp_path)


def test_what_is_left_of_a_removed_model_is_told(tmp_path: Path) -> None:
    repository = copy_repository(tmp_path)
    caches = repository / "sam3_gone" / "1" / "__pycache__"
    caches.mkdir(parents=True)
    (caches / "model.cpython-311.pyc").touch()
    assert "sam3_gone: an empty folder, which Triton takes for a model; delete it" in fails(repository)


def test_an_unknown_profile_is_told(exported: Path) -> None:
    assert "no profile 'fast'" in fails(exported, "--profile", "fast")
    known = "cpu, cpu-bf16, cpu-int8, gpu, tensorrt, torchscript, torchscript-gpu, torchscript-gpu-bf16"
    assert f"there are: {known}" in fails(exported, "--profile", "fast")


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_port_in_use_is_told(exported: Path, position: int) -> None:
    ports = free_ports(3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[position]))
        taken.listen()
        line = fails(exported, ports=ports)
    assert f"port {ports[position]} of 127.0.0.1 is in use" in line
    assert ("--http-port", "--grpc-port", "--metrics-port")[position] in line


def test_a_model_that_fails_to_load_is_told(exported: Path, tmp_path: Path) -> None:
    repository = copy_repository(tmp_path)
    link_artifacts(exported, repository)
    model = repository / "sam3_preprocess" / "1" / "model.py"
    model.write_text(model.read_text().replace("import triton_python_backend_utils", "import no_such_module"))
    line = fails(repository)
    fault = "ModuleNotFoundError: No module named 'no_such_module'"
    assert line.endswith(f"the model sam3_preprocess failed to load: {fault}")


def test_an_artifact_that_a_profile_lacks_is_told(exported: Path, tmp_path: Path) -> None:
    repository = copy_repository(tmp_path)
    for model in components_of(exported):
        (repository / model / "1").mkdir()
        (repository / model / "1" / "model.onnx").symlink_to(exported / model / "1" / "model.onnx")
    (repository / "sam3" / "exports" / "current").mkdir(parents=True)
    report = exported / "sam3" / "exports" / "current" / "export.json"
    (repository / "sam3" / "exports" / "current" / "export.json").symlink_to(report)
    line = fails(repository, "--profile", "cpu-bf16")
    # The path in the user's repository, not in the profile's temporary folder.
    assert re.search(
        rf"{re.escape(str(repository))}/\w+/1/model.bf16.pt is missing, which the profile cpu-bf16 needs; "
        "run sam3-export",
        line,
    )


def test_artifacts_of_another_version_are_told(exported: Path, tmp_path: Path) -> None:
    repository = copy_repository(tmp_path)
    for model in components_of(exported):
        (repository / model / "1").symlink_to(exported / model / "1")
    current = repository / "sam3" / "exports" / "current"
    current.mkdir(parents=True)
    report = json.loads((exported / "sam3" / "exports" / "current" / "export.json").read_text())
    report["interface"] -= 1
    (current / "export.json").write_text(json.dumps(report))
    line = fails(repository)
    assert line.endswith("exported by another version of this project; run sam3-export")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_without_a_trace(exported: Path, number: signal.Signals) -> None:
    ports = free_ports(4)
    process = subprocess.Popen(
        serve_command(exported, ports, "--drain-s", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Serving SAM 3: gRPC 127.0.0.1")
    with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/v2/models/sam3/ready", timeout=10) as answer:
        assert answer.status == 200
    children = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True, check=True
    ).stdout.split()
    triton = int(children[0])
    assert len(processes_of_group(triton)) > len(models_with_processes())  # these, and the server itself
    prefix = shared_memory_of(triton)
    assert list(Path("/dev/shm").glob(f"{prefix}*"))
    started = time.monotonic()
    assert health(ports[3]) == (200, {"status": "ready"})
    process.send_signal(number)
    if number == signal.SIGTERM:
        while health(ports[3])[1]["status"] != "draining":
            assert time.monotonic() - started < 60
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/v2/models/sam3/ready", timeout=10) as answer:
            assert answer.status == 200  # still serves
    assert process.wait(60) == 0
    assert time.monotonic() - started < 60
    assert processes_of_group(triton) == []
    assert not list(Path("/dev/shm").glob(f"{prefix}*"))
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def health(port: int) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline().rstrip()


def test_a_profile_for_gpus_without_a_gpu_is_told_in_one_line(exported: Path) -> None:
    if gpus.find().names:
        pytest.skip("this machine has a GPU")
    line = fails(exported, "--profile", "gpu")
    assert line == f"sam3-serve: the profile gpu needs a GPU, but {gpus.find().reason}"


def test_a_closed_terminal_stops_it_too(exported: Path) -> None:
    ports = free_ports(4)
    terminal, other_end = os.openpty()
    process = subprocess.Popen(
        # The tests themselves may run under nohup.
        ["setsid", "--ctty", "env", "--default-signal=HUP", *serve_command(exported, ports)],
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
    )
    os.close(other_end)
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        shown = b""
        while b"server_id" not in shown and b"model_lifecycle" not in shown:  # Triton runs
            shown += screen.read(4096)
        (triton,) = [
            one for one in psutil.Process(process.pid).children(recursive=True) if one.name() == "tritonserver"
        ]
    assert process.wait(60) == 0
    assert not triton.is_running()


def test_a_signal_during_the_start_stops_it_too(exported: Path) -> None:
    ports = free_ports(4)
    process = subprocess.Popen(
        serve_command(exported, ports), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert re.match(
        r"sam3-serve: profile [a-z0-9-]+: .+ is installed.* \(--profile chooses another one\)$", line_of(process)
    )
    assert line_of(process)  # Triton's first one
    code, state = health(ports[3])
    assert (code, state["status"]) == (503, "starting")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors[-2000:]


def test_a_flag_that_the_command_sets_itself_is_told(exported: Path) -> None:
    assert fails(exported, "--", "--http-port=1").endswith(
        "--http-port is set by sam3-serve itself; see sam3-serve --help"
    )


def test_a_profile_leaves_the_repository_alone_and_further_flags_reach_triton(exported: Path, tmp_path: Path) -> None:
    before = contents(exported)
    flags = ("--http-restricted-api=logging:key=secret", "--model-control-mode=none")
    ports = free_ports(3)
    server = TritonServer(exported, (tmp_path / "log").open("w"), "cpu", Ports(*ports), flags=flags)
    with server:
        (served,) = (path for path in Path(tempfile.gettempdir()).glob("sam3-repository-*") if serves(server.pid, path))
        for model in components_of(exported):
            with urllib.request.urlopen(f"http://{server.http_url}/v2/models/{model}/config", timeout=10) as answer:
                assert json.load(answer)["parameters"]["profile"]["string_value"] == "cpu"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://{server.http_url}/v2/logging", timeout=10)
        request = urllib.request.Request(f"http://{server.http_url}/v2/logging", headers={"key": "secret"})
        assert urllib.request.urlopen(request, timeout=10).status == 200
    assert not served.exists()
    assert contents(exported) == before
