"""The profile that `sam3-serve` chooses by itself, and the GPUs that it finds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from repository import copy_repository
from sam3_server import ServerError, choice, gpus, runtimes
from sam3_server.choice import FOR_CPUS, FOR_GPUS, check_needs, choose
from sam3_server.gpus import Gpus

ENCODER, DECODER = "sam3_image_encoder", "sam3_mask_decoder"
ONE_GPU = Gpus(("NVIDIA H200",))
NO_GPU = Gpus(reason="there is no NVIDIA driver (libcuda.so.1)")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return copy_repository(tmp_path)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Sets what is found on this machine: its GPUs, what keeps backends from running, and instructions for bf16."""

    def found(gpus_: Gpus, faults: dict[tuple[str, bool], str] | None = None, bf16: str | None = None) -> None:
        monkeypatch.setattr(gpus, "find", lambda: gpus_)
        monkeypatch.setattr(runtimes, "fault", lambda backend, on_gpu: (faults or {}).get((backend, on_gpu)))
        monkeypatch.setattr(choice, "bf16_instructions", lambda: bf16)

    return found


def install(repository: Path, *files: str) -> None:
    for model in (ENCODER, DECODER):
        (repository / model / "1").mkdir(exist_ok=True)
        for file in files:
            (repository / model / "1" / file).touch()


@pytest.mark.parametrize(
    ("found", "files", "profile"),
    [
        (NO_GPU, ["model.onnx", "model.fp16.onnx", "model.pt"], "cpu"),
        (NO_GPU, ["model.pt"], "torchscript"),
        (ONE_GPU, ["model.onnx", "model.fp16.onnx", "model.fp16.pt"], "gpu"),
        (ONE_GPU, ["model.onnx", "model.fp16.pt"], "torchscript-gpu"),
        (ONE_GPU, ["model.onnx", "model.bf16.pt"], "torchscript-gpu-bf16"),
        (ONE_GPU, ["model.onnx"], "cpu"),
    ],
)
def test_hardware_and_artifacts_decide(repository: Path, machine, found: Gpus, files: list[str], profile: str) -> None:
    machine(found)
    install(repository, *files)
    chosen = choose(repository)
    assert chosen.profile == profile
    assert ("there is a GPU (NVIDIA H200)" if "gpu" in profile else "is installed") in chosen.reason
    if not found.names:
        assert "there is no NVIDIA driver" in chosen.reason


def test_a_gpu_without_a_runtime_is_not_used_and_the_reason_is_told(repository: Path, machine) -> None:
    machine(ONE_GPU, {("onnxruntime", True): "the installed onnxruntime cannot use the GPU (install …)"})
    install(repository, "model.onnx", "model.fp16.onnx")
    chosen = choose(repository)
    assert chosen.profile == "cpu"
    assert "not gpu: the installed onnxruntime cannot use the GPU" in chosen.reason
    assert "not torchscript-gpu: model.fp16.pt is not installed" in chosen.reason
    assert "\n" not in chosen.reason


def test_bf16_needs_a_cpu_with_its_instructions(repository: Path, machine) -> None:
    install(repository, "model.onnx", "model.bf16.pt")
    machine(NO_GPU, bf16="AMX")
    assert choose(repository).profile == "cpu-bf16"
    assert choose(repository).reason.startswith("this CPU has AMX, and model.bf16.pt is installed")
    machine(NO_GPU)
    assert choose(repository).profile == "cpu"
    assert "not cpu-bf16: this CPU has neither AMX nor AVX512-BF16" in choose(repository).reason


def test_int8_is_refused_on_a_cpu_that_answers_wrongly(
    repository: Path, machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(repository, "model.onnx", "model.int8.onnx")
    machine(NO_GPU)
    assert choose(repository).profile == "cpu"
    monkeypatch.setattr(choice, "int8_instructions", lambda: "AVX512-VNNI")
    check_needs(repository, "cpu-int8")
    monkeypatch.setattr(choice, "int8_instructions", lambda: None)
    with pytest.raises(ServerError, match="cpu-int8 needs a CPU with VNNI or AMX: on this one, masks would be wrong"):
        check_needs(repository, "cpu-int8")


def test_replicas_on_gpus_never_get_a_profile_for_cpus(repository: Path, machine) -> None:
    install(repository, "model.onnx")
    for found, fault in ((ONE_GPU, "not gpu: model.fp16.onnx is not installed"), (NO_GPU, "there is no NVIDIA driver")):
        machine(found)
        with pytest.raises(ServerError, match=f"torchscript-gpu-bf16 can be served: {fault}"):
            choose(repository, FOR_GPUS)


def test_replicas_on_cores_leave_a_gpu_alone(repository: Path, machine) -> None:
    machine(ONE_GPU)
    install(repository, "model.onnx", "model.fp16.onnx")
    chosen = choose(repository, FOR_CPUS)
    assert chosen.profile == "cpu"
    assert "GPU" not in chosen.reason


def test_a_profile_for_gpus_without_a_gpu_is_refused(repository: Path, machine) -> None:
    machine(NO_GPU)
    install(repository, "model.onnx", "model.fp16.onnx")
    check_needs(repository, "cpu")
    with pytest.raises(ServerError, match="the profile gpu needs a GPU, but there is no NVIDIA driver"):
        check_needs(repository, "gpu")
    machine(ONE_GPU)
    check_needs(repository, "gpu")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Builds a library with the functions of NVIDIA's driver that answer as told, and uses it as the driver."""

    def build(init: int, names: list[str]) -> None:
        listed = ", ".join(f'"{name}"' for name in [*names, ""])
        source = tmp_path / "driver.c"
        source.write_text(
            "#include <string.h>\n"
            f"static const char* names[] = {{{listed}}};\n"
            f"int cuInit(unsigned flags) {{ return {init}; }}\n"
            f"int cuDeviceGetCount(int* count) {{ *count = {len(names)}; return 0; }}\n"
            "int cuDeviceGet(int* device, int index) { *device = index; return 0; }\n"
            "int cuDeviceGetName(char* name, int size, int device) { strncpy(name, names[device], size); return 0; }\n"
            'int cuGetErrorString(int code, const char** text) { *text = "system has unsupported driver"; return 0; }\n'
        )
        library = tmp_path / f"driver{init}_{len(names)}.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        monkeypatch.setattr(gpus, "_DRIVER", str(library))

    return build


def test_the_driver_names_the_gpus(driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(0, ["NVIDIA H200", "NVIDIA L4"])
    assert gpus.find() == Gpus(("NVIDIA H200", "NVIDIA L4"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    driver(100, [])
    assert gpus.find() == Gpus(reason="the NVIDIA driver finds no GPU with CUDA_VISIBLE_DEVICES=-1")
    driver(803, [])
    assert gpus.find() == Gpus(reason="the NVIDIA driver fails: system has unsupported driver")
    monkeypatch.setattr(gpus, "_DRIVER", "libno-such-driver.so.1")
    assert gpus.find() == Gpus(reason="there is no NVIDIA driver (libno-such-driver.so.1)")


def test_a_backend_needs_its_library_or_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary, library = tmp_path / "bin" / "tritonserver", tmp_path / "backends" / "pytorch" / "libtriton_pytorch.so"
    for path in (binary, library):
        path.parent.mkdir(parents=True)
        path.touch(mode=0o755)
    installed = {"cupy"}
    monkeypatch.setattr(runtimes, "_is_installed", installed.__contains__)
    monkeypatch.setattr(runtimes, "_has_cuda", lambda backend: False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert runtimes.fault("pytorch", False) == "torch is not installed (pip install torch)"
    installed.add("torch")
    assert runtimes.fault("pytorch", False) is None
    assert "the installed torch cannot use the GPU" in (runtimes.fault("pytorch", True) or "")
    monkeypatch.setenv("PATH", str(binary.parent))
    assert runtimes.fault("pytorch", True) is None  # Triton's own backend needs no package
    assert runtimes.fault("onnxruntime", False) is not None
    installed.remove("cupy")
    assert "CuPy" in (runtimes.fault("pytorch", True) or "")


def test_this_onnx_runtime_is_asked_for_cuda() -> None:
    import onnxruntime

    assert runtimes._has_cuda("onnxruntime") == ("CUDAExecutionProvider" in onnxruntime.get_available_providers())


def test_a_runtime_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runtimes._HAS_CUDA, "pytorch", "import time; time.sleep(60)")
    monkeypatch.setattr(runtimes, "_TIMEOUT_S", 0.1)
    with pytest.raises(ServerError, match="torch takes more than 0.1 s to find a GPU"):
        runtimes._has_cuda.__wrapped__("pytorch")
