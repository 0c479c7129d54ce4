"""`sam3 doctor` over a real server with real faults."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import run_triton
from repository import copy_repository, free_ports, link_artifacts
from sam3_server import Ports, TritonServer
from sam3_server.model_processes import model_processes
from sam3_triton.cli import main
from tritonclient.grpc import InferenceServerClient

Doctor = Callable[..., tuple[int, list[tuple[str, str, str]]]]
REST_ON_A_SERVER = ("models", "profile", "instances", "model", "click", "concepts", "cache", "memory", "shared memory")


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Runs the command: its exit code, and mark, subject and text of each line."""

    def run(url: str, *arguments: str) -> tuple[int, list[tuple[str, str, str]]]:
        capsys.readouterr()
        code = main(["doctor", "--url", url, *arguments])
        *lines, summary = capsys.readouterr().out.splitlines()
        told = [(line[:8].strip(), line[9:23].strip(), line[24:]) for line in lines]
        faults = sum(mark == "fault" for mark, _, _ in told)
        assert summary.startswith({0: "no faults", 1: "1 fault"}.get(faults, f"{faults} faults"))
        assert code == (1 if faults else 0)
        return code, told

    return run


def of(told: list[tuple[str, str, str]], subject: str) -> list[tuple[str, str]]:
    """Mark and text of the lines on a subject."""
    return [(mark, text) for mark, found, text in told if found == subject]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_healthy_server(server, exported: Path, doctor: Doctor, scheme: str) -> None:
    url = {"grpc": server.grpc_url, "http": f"http://{server.http_url}"}[scheme]
    code, told = doctor(url, "--repository", str(exported))
    assert code == 0
    # Left-over shared memory and GPUs depend on the machine, not on this test.
    assert {mark for mark, subject, _ in told if subject not in ("segments", "GPU")} == {"ok"}
    assert {subject for _, subject, _ in told} >= {*REST_ON_A_SERVER, "client", "server", "repository", "artifacts"}
    ((_, text),) = of(told, "server")
    assert text == f"Triton 2.51.0 at {url.removeprefix('http://')}, live, ready"
    ((_, text),) = of(told, "cache")
    image = 2 * (32 * 96 * 96 + 64 * 48 * 48 + 256 * 24 * 24)
    assert f"room for {(1 << 30) // image} images ({image / 1e6:.1f} MB each)" in text
    ((_, text),) = of(told, "shared memory")
    assert f"enough for the {((64 << 20) + (2 + 2 + 8 + 5) * image) / 1e6:.1f} MB needed under load" in text
    assert re.fullmatch(r"the server may use .* GB; its model is not of SAM 3's own size", of(told, "memory")[0][1])
    ((_, text),) = of(told, "profile")
    assert text == "default, for image encoder and mask decoder"
    assert re.fullmatch(r"a mask came back in \d+ ms", of(told, "click")[0][1])
    assert of(told, "concepts") == [("ok", "not served: the model was exported without concept prompts")]
    assert "sam3_tiny.pt (sha256 " in of(told, "repository")[0][1]
    assert "as onnx + torchscript, exported" in of(told, "repository")[0][1]


def test_no_server_at_the_port(doctor: Doctor) -> None:
    code, told = doctor(f"127.0.0.1:{free_ports(1)[0]}")
    assert code == 1
    ((mark, text),) = of(told, "server")
    assert mark == "fault"
    assert text.startswith("no Triton at 127.0.0.1:")
    assert text.endswith("-> start one (sam3-serve), or say where it is (--url)")
    for subject in REST_ON_A_SERVER:
        assert of(told, subject) == [("skipped", "not checked: no server answers")]


def test_the_port_of_the_other_protocol(server, doctor: Doctor) -> None:
    for url, other in (
        (server.http_url, f"http://{server.http_url}"),
        (f"http://{server.grpc_url}", f"grpc://{server.grpc_url}"),
    ):
        _, told = doctor(url)
        ((mark, text),) = of(told, "server")
        assert mark == "fault"
        assert text.endswith(f"--url {other}")


def test_a_model_whose_process_died(exported: Path, tmp_path: Path, doctor: Doctor) -> None:
    with (tmp_path / "log").open("w") as log, TritonServer(exported, log, None, Ports(*free_ports(3))) as server:
        next(one.process for one in model_processes(server.pid) if one.model == "sam3_embedding_cache").kill()
        code, told = doctor(server.grpc_url)
        server.stop(grace_s=0)  # Triton would wait half a minute for the process that died
    assert code == 1
    assert of(told, "models") == [("ok", "all 7 are ready")], "Triton says so, hence the click"
    ((mark, text),) = of(told, "click")
    assert mark == "fault"
    assert "a model's process has died" in text
    assert "-> restart the server" in text


@pytest.fixture(scope="module")
def harmed(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a missing, an unloaded and a wrongly configured model, no cache and too little shared memory."""
    repository = copy_repository(tmp_path_factory.mktemp("harmed"))
    link_artifacts(exported, repository)
    shutil.rmtree(repository / "sam3_encode")
    (repository / "sam3_image_encoder" / "configs").mkdir()
    usual = (repository / "sam3_image_encoder" / "config.pbtxt").read_text()
    half = repository / "sam3_image_encoder" / "configs" / "half.pbtxt"
    half.write_text(usual.replace('"default"', '"half"'))
    cache = repository / "sam3_embedding_cache" / "config.pbtxt"
    text = cache.read_text().replace('"1073741824"', '"0"')
    cache.write_text(text.replace('string_value: "2"', 'string_value: "10000000"'))
    flags = (
        "--model-config-name=half",
        "--load-model=*",
        "--backend-config=python,shm-region-prefix-name=sam3_0badcafe_",
    )
    with run_triton(repository, repository.parent / "log", *flags) as (url, control):
        control.unload_model("sam3_mask_postprocess")
        wait_until_unloaded(control, "sam3_mask_postprocess")
        yield url


def wait_until_unloaded(client: InferenceServerClient, model: str) -> None:
    deadline = time.monotonic() + 60
    while {one.state for one in client.get_model_repository_index().models if one.name == model} != {"UNAVAILABLE"}:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the command, first on the PATH."""
    command = tmp_path / "bin" / "nvidia-smi"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 'NVIDIA L4'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    return command


def test_all_faults_are_reported(harmed: str, doctor: Doctor, nvidia_smi: Path) -> None:
    code, told = doctor(harmed)
    assert code == 1
    models = dict(text.split(" is ", 1) for mark, text in of(told, "models") if mark == "fault")
    assert models["sam3_encode"].startswith("missing in the server's repository")
    assert models["sam3_mask_postprocess"].startswith("unavailable: unloaded -> load it")
    assert set(models) <= {"sam3_encode", "sam3_mask_postprocess", "sam3"}
    ((mark, text),) = of(told, "profile")
    assert mark == "fault"
    assert text.startswith("the profiles differ: image encoder 'half', mask decoder 'default'")
    assert of(told, "click")[0][0] == "fault"
    ((mark, text),) = of(told, "cache")
    assert mark == "warning"
    assert text.startswith("keeps nothing")
    ((mark, text),) = of(told, "shared memory")
    assert mark == "warning"
    assert "under load it needs" in text
    ((mark, text),) = of(told, "GPU")
    assert (mark, text[:39]) == ("warning", "NVIDIA L4 is idle: the encoder runs on ")
    nvidia_smi.write_text("#!/bin/sh\necho 'No devices were found'; exit 6\n")
    assert of(doctor(harmed)[1], "GPU") == [
        ("skipped", "not checked: nvidia-smi fails (No devices were found)"),
    ]


def test_shared_memory_of_killed_processes(server, doctor: Doctor) -> None:
    nobody = subprocess.Popen(["true"])
    nobody.wait()
    left = [Path("/dev/shm/sam3_0123abcd_left-over"), Path(f"/dev/shm/sam3_client_{nobody.pid}_left-over")]
    in_use = Path(f"/dev/shm/sam3_client_{os.getpid()}_in-use")
    for segment in (*left, in_use):
        segment.write_bytes(bytes(2_000_000))
    try:
        code, told = doctor(server.grpc_url)
    finally:
        for segment in (*left, in_use):
            segment.unlink()
    assert code == 0
    ((mark, text),) = of(told, "segments")
    assert mark == "warning"
    assert "/dev/shm/sam3_0123abcd_*" in text
    assert f"/dev/shm/sam3_client_{nobody.pid}_*" in text
    assert str(os.getpid()) not in text
    assert all("sam3_0123abcd" not in text for _, text in of(doctor(server.grpc_url)[1], "segments"))


@pytest.fixture
def artifacts(exported: Path, tmp_path: Path) -> Path:
    """A copy of the repository with hard links: replace its files, do not write into them."""
    repository = tmp_path / "repository"
    shutil.copytree(exported, repository, symlinks=True, copy_function=os.link)
    return repository


def without_artifacts(repository: Path) -> None:
    shutil.rmtree(repository / "sam3" / "exports")


def with_a_damaged_report(repository: Path) -> None:
    replace(repository / "sam3" / "exports" / "current" / "export.json", b"{")


def with_a_report_of_nothing(repository: Path) -> None:
    path = repository / "sam3" / "exports" / "current" / "export.json"
    replace(path, json.dumps({**json.loads(path.read_bytes()), "artifacts": {}}).encode())


def with_a_cut_file(repository: Path) -> None:
    replace(repository / "sam3" / "exports" / "current" / "sam3_mask_decoder" / "model.onnx", b"")


def without_a_file(repository: Path) -> None:
    (repository / "sam3" / "exports" / "current" / "sam3_image_encoder" / "model.pt").unlink()


def with_a_link_to_nothing(repository: Path) -> None:
    link = repository / "sam3_image_encoder" / "1"
    link.unlink()
    link.symlink_to("../sam3/exports/gone/sam3_image_encoder")


def with_a_link_elsewhere(repository: Path) -> None:
    link = repository / "sam3_image_encoder" / "1"
    link.unlink()
    link.symlink_to("../sam3_preprocess/1")


def without_a_link(repository: Path) -> None:
    (repository / "sam3_mask_decoder" / "1").unlink()


def without_its_configs(repository: Path) -> None:
    (repository / "sam3" / "config.pbtxt").unlink()


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (without_artifacts, "no artifacts are installed: .*export.json: No such file"),
        (with_a_damaged_report, "export.json is damaged"),
        (with_a_report_of_nothing, "export.json names no artifact of sam3_image_encoder"),
        (with_a_cut_file, r"sam3_mask_decoder/model.onnx has 0 bytes, not the \d+ of its export"),
        (without_a_file, "sam3_image_encoder/model.pt is missing"),
        (with_a_link_to_nothing, "sam3_image_encoder/1 is a broken link"),
        (with_a_link_elsewhere, "sam3_image_encoder/1 is .*sam3_preprocess/1, not the exported"),
        (without_a_link, "sam3_mask_decoder/1 is missing"),
        (without_its_configs, "is not a model repository"),
    ],
)
def test_incomplete_artifacts(server, artifacts: Path, doctor: Doctor, harm: Callable[[Path], None], told: str) -> None:
    assert doctor(server.grpc_url, "--repository", str(artifacts))[0] == 0
    harm(artifacts)
    code, lines = doctor(server.grpc_url, "--repository", str(artifacts))
    assert code == 1
    faults = [text for mark, _, text in lines if mark == "fault"]
    assert re.search(told, faults[0])
    assert " -> " in faults[0]


@pytest.mark.parametrize("wanted", [True, False])
def test_colours_are_for_terminals_without_no_color(wanted: bool) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)  # if nothing was written, fail instead of waiting
    command = [sys.executable, "-m", "sam3_triton.cli", "doctor", "--url", f"127.0.0.1:{free_ports(1)[0]}"]
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    result = subprocess.run(command, stdout=theirs, env=environment if wanted else {**environment, "NO_COLOR": "1"})
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert result.returncode == 1
    assert ("\033[31mfault" in shown) == wanted
    assert "fault" in shown


def test_golden_clicks_on_the_right_server(server, exported: Path, doctor: Doctor) -> None:
    code, told = doctor(server.grpc_url, "--repository", str(exported), "--golden")
    assert code == 0
    ((mark, text),) = of(told, "golden")
    assert mark == "ok"
    assert text.startswith("3 golden clicks on model.onnx agree with PyTorch: logits ")


def test_golden_clicks_on_a_server_with_other_weights(
    serve, exported: Path, exported_unstable: Path, doctor: Doctor
) -> None:
    # The two differ only in what replaces an unstable mask, like an engine with one wrong layer.
    code, told = doctor(serve(exported_unstable).grpc_url, "--repository", str(exported), "--golden")
    assert code == 1
    ((mark, text),) = of(told, "golden")
    assert mark == "fault"
    assert "the tolerances of model.onnx are logits 1.0e-02 of scale" in text
    assert "do not route traffic to this server" in text


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda folder: (folder / "logits.npz").unlink(), "logits.npz: No such file"),
        (lambda folder: (folder / "clicks.json").write_text("{"), "is damaged (JSONDecodeError"),
        (lambda folder: (folder / "logits.npz").write_bytes(b"none"), "is damaged"),
        (lambda folder: (folder / "logits.npz").write_bytes(b"PK\x03\x04cut"), "is damaged (BadZipFile"),
        (
            lambda folder: _rename_bounds(folder / "clicks.json"),
            "the server runs model.onnx, which this export does not contain",
        ),
    ],
    ids=["missing", "no JSON", "no arrays", "cut off", "another format"],
)
def test_damaged_golden_clicks(
    server, exported: Path, tmp_path: Path, doctor: Doctor, harm: Callable[[Path], object], fault: str
) -> None:
    repository = copy_repository(tmp_path)
    link_artifacts(exported, repository)
    exports = repository / "sam3" / "exports"
    exports.unlink()
    shutil.copytree(exported / "sam3" / "exports", exports, symlinks=True)
    harm(exports / "current" / "golden")
    code, told = doctor(server.grpc_url, "--repository", str(repository), "--golden")
    assert code == 1
    ((mark, text),) = of(told, "golden")
    assert mark == "fault"
    assert fault in text


def test_golden_clicks_without_a_server(exported: Path, doctor: Doctor) -> None:
    (port,) = free_ports(1)
    code, told = doctor(f"127.0.0.1:{port}", "--repository", str(exported), "--golden")
    assert code == 1
    assert of(told, "golden") == [("skipped", "not checked: no server answers")]


def _rename_bounds(path: Path) -> None:
    document = json.loads(path.read_text())
    document["bounds"] = {"model.other.onnx": document["bounds"]["model.onnx"]}
    path.write_text(json.dumps(document))
