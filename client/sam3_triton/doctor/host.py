"""Checks of this machine: shared memory and GPUs."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sam3_triton.cpu import bf16_instructions, int8_instructions
from sam3_triton.doctor.findings import Finding, fault, megabytes, ok, skipped, warning
from sam3_triton.doctor.server import CACHE, ENCODER, TEXT_ENCODER, Configs
from sam3_triton.wire import Address

# Terms of the formula in docs/cache.md.
_BASE, _SPARE_IMAGES, _SENT_IMAGES = 64 << 20, 2, 8
_PREFIX_FLAG = "shm-region-prefix-name="
_TRITONS_PREFIX = "triton_python_backend_shm_region_"
_SEGMENT = re.compile(rf"(sam3_[0-9a-f]{{8}}_|{_TRITONS_PREFIX}|sam3_client_(?P<client>\d+)_).+")
_GPU_TIMEOUT_S = 20
# The image encoder in bf16 and in int8, as sam3-export names it.
_BF16_FILE, _INT8_FILE = "model.bf16.pt", "model.int8.onnx"


@dataclass(frozen=True)
class Server:
    """A `tritonserver` process on this machine, possibly in a container."""

    pid: int
    arguments: tuple[str, ...]

    @property
    def segment_prefix(self) -> str:
        """The prefix of its shared-memory names."""
        flags = [argument.split(_PREFIX_FLAG)[1] for argument in self.arguments if _PREFIX_FLAG in argument]
        return flags[0] if flags else _TRITONS_PREFIX

    @property
    def shared_memory(self) -> Path:
        """Its /dev/shm, which differs from ours if it runs in a container."""
        return Path(f"/proc/{self.pid}/root/dev/shm")


def is_here(address: Address) -> bool:
    """Whether an address belongs to this machine."""
    host = urlsplit(f"//{address.netloc}").hostname or ""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, where in found:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind((where[0], 0))
            except OSError:
                continue
            return True
    return False


def running_servers() -> list[Server]:
    """Returns all Triton servers in this machine's process table."""
    servers = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().strip() != "tritonserver":
                continue
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:  # the process has ended meanwhile
            continue
        if arguments != [""]:  # a zombie has no arguments
            servers.append(Server(int(folder.name), tuple(arguments)))
    return servers


def listening(servers: list[Server], address: Address) -> Server | None:
    """Returns the server that listens at an address; None if that is not clear."""
    port = str(urlsplit(f"//{address.netloc}").port)
    named = [one for one in servers if any(port in argument.split("=") for argument in one.arguments)]
    if len(named) == 1:
        return named[0]
    return servers[0] if len(servers) == 1 and not named else None


def check_shared_memory(configs: Configs, here: bool, server: Server | None) -> Finding:
    """Checks whether /dev/shm is large enough for Triton's Python models, by the formula in docs/cache.md."""
    if not here:
        return skipped("shared memory", "the server is on another machine; run this there")
    if server is None:
        return skipped("shared memory", "cannot find the server's process on this machine")
    if reason := configs.lacking(CACHE, ENCODER):
        return skipped("shared memory", reason)
    encodes = configs.parameter(CACHE, "max_concurrent_encodes")
    if encodes is None or not encodes.isdecimal():
        return skipped(
            "shared memory", f"the parameter max_concurrent_encodes of {CACHE} must be a number, not {encodes!r}"
        )
    images = int(encodes) + _SPARE_IMAGES + _SENT_IMAGES
    if configs.is_stand_in(ENCODER):
        # A component that reads features has its batch twice: as it came, and stacked.
        readers = set(configs.components) - {ENCODER, TEXT_ENCODER}
        images += configs.largest_batch(ENCODER) + sum(2 * configs.largest_batch(model) for model in readers)
    needed = _BASE + images * (configs.bytes_per_image() or configs.sam3s_bytes_per_image)
    try:
        total, _, free = shutil.disk_usage(server.shared_memory)
        used = sum(segment.stat().st_blocks * 512 for segment in server.shared_memory.glob(f"{server.segment_prefix}*"))
    except OSError as error:
        return skipped("shared memory", f"cannot read /dev/shm of the server (pid {server.pid}): {error.strerror}")
    text = f"/dev/shm of the server: {megabytes(total)}, {megabytes(free)} free, {megabytes(used)} used by the server"
    if free + used < needed:
        advice = "make it larger (docker run --shm-size=1g) or free space in it"
        return warning("shared memory", f"{text}; under load it needs {megabytes(needed)}", advice)
    return ok("shared memory", f"{text}; enough for the {megabytes(needed)} needed under load")


def check_segments(servers: list[Server], folder: Path = Path("/dev/shm")) -> Finding:
    """Checks whether killed servers or clients left shared memory behind."""
    if not folder.is_dir():
        return skipped("segments", f"there is no {folder}")
    live = tuple(server.segment_prefix for server in servers)
    left = [segment for segment in folder.iterdir() if _is_left_over(segment.name, live)]
    if not left:
        return ok("segments", f"no left-over shared memory in {folder}")
    size = sum(segment.stat().st_blocks * 512 for segment in left)
    prefixes = sorted({match[1] for segment in left if (match := _SEGMENT.fullmatch(segment.name))})
    return warning(
        "segments",
        f"{len(left)} pieces of shared memory ({megabytes(size)}) belong to no process in the process table",
        f"if no container uses them: rm {' '.join(f'{folder}/{prefix}*' for prefix in prefixes)}",
    )


def _is_left_over(name: str, live: tuple[str, ...]) -> bool:
    match = _SEGMENT.fullmatch(name)
    if match is None:
        return False
    if match["client"]:
        return not Path(f"/proc/{match['client']}").exists()
    return not (live and name.startswith(live))


def check_cpu(configs: Configs | None, here: bool) -> Finding:
    """Checks whether this CPU has the instructions that an image encoder in bf16 or int8 needs."""
    if configs is not None and not here:
        return skipped("CPU", "the server is on another machine; run this there")
    bf16, int8 = bf16_instructions(), int8_instructions()
    has_bf16 = f"{bf16} for bf16" if bf16 else "no instructions for bf16 (AMX or AVX512-BF16)"
    has_int8 = f"{int8} for int8" if int8 else "none for int8 (AMX or VNNI)"
    text = f"has {has_bf16}, {has_int8}"
    if configs is None or configs.lacking(ENCODER) or "CPU" not in configs.kinds(ENCODER):
        return ok("CPU", text)
    file = configs.by_model[ENCODER].get("default_model_filename")
    if file == _BF16_FILE:
        text = f"{text}; the image encoder runs on it in bf16"
        return ok("CPU", text) if bf16 else warning("CPU", text, "serve the profile cpu, which is faster here")
    if file == _INT8_FILE:
        if int8:
            return ok("CPU", f"{text}; the image encoder runs on it in int8")
        return fault("CPU", f"{text}; the image encoder's sums overflow on it in int8", "serve the profile cpu")
    profiles = [profile for profile, instructions in (("cpu-bf16", bf16), ("cpu-int8", int8)) if instructions]
    return ok("CPU", f"{text}; {' and '.join(profiles)} would use them" if profiles else text)


def check_gpu(configs: Configs | None, here: bool) -> Finding:
    """Checks whether a GPU is idle while the encoder runs on the CPU."""
    if configs is not None and not here:
        return skipped("GPU", "the server is on another machine; run this there")
    command = shutil.which("nvidia-smi")
    if command is None:
        return skipped("GPU", "nvidia-smi is not installed (no GPU, or its driver is missing)")
    arguments = [command, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(arguments, capture_output=True, text=True, timeout=_GPU_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return skipped("GPU", f"nvidia-smi fails ({error})")
    names = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    if answer.returncode or not names:
        reason = (answer.stdout + answer.stderr).strip() or "it lists no GPU"
        return skipped("GPU", f"nvidia-smi fails ({reason})")
    text = ", ".join(names)
    if configs is None:
        return skipped("GPU", f"{text}; no server answers, so it is unknown whether a model uses it")
    if reason := configs.lacking(ENCODER):
        return skipped("GPU", f"{text}; {reason}")
    if "GPU" in configs.kinds(ENCODER):
        return ok("GPU", f"{text}; the encoder runs on it")
    return warning(
        "GPU", f"{text} is idle: the encoder runs on the CPU", "serve a profile whose instances are KIND_GPU"
    )
