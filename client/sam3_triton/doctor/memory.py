"""Checks whether a server on this machine has the memory that SAM 3's own size needs on a CPU."""

from __future__ import annotations

from pathlib import Path

from sam3_triton.doctor.findings import Finding, megabytes, ok, skipped, warning
from sam3_triton.doctor.host import Server
from sam3_triton.doctor.server import ENCODER, Configs

# At SAM 3's own size, on a CPU: the most that the image encoder's process takes with each of its files, while it
# loads the file or encodes images (docs/precisions.md). Other profiles were not measured as a whole.
_ENCODER_BYTES = {"model.onnx": 4.1e9, "model.int8.onnx": 2.4e9}
# The cache, the mask decoder with 32 boxes and all other processes; and for concept prompts, the text encoder and the
# concept detector (docs/deployment.md).
_REST_BYTES, _CONCEPTS_BYTES = 4.5e9, 4e9
_CGROUPS = Path("/sys/fs/cgroup")


def check_memory(configs: Configs, here: bool, server: Server | None) -> Finding:
    """Checks whether the machine, or the server's container, has enough memory."""
    if not here:
        return skipped("memory", "the server is on another machine; run this there")
    if server is None:
        return skipped("memory", "cannot find the server's process on this machine")
    if reason := configs.lacking(ENCODER):
        return skipped("memory", reason)
    total = limit_of(server.pid)
    text = f"the server may use {megabytes(total)}"
    if "GPU" in configs.kinds(ENCODER):
        return ok("memory", f"{text}; its image encoder runs on a GPU")
    if configs.bytes_per_image() != configs.sam3s_bytes_per_image:
        return ok("memory", f"{text}; its model is not of SAM 3's own size")
    file = str(configs.by_model[ENCODER].get("default_model_filename", ""))
    if file not in _ENCODER_BYTES:
        return ok("memory", f"{text}; what {file} needs was not measured")
    needed = _ENCODER_BYTES[file] + _REST_BYTES + (_CONCEPTS_BYTES if configs.has_concept_features else 0)
    if total < needed:
        advice = "give it more (docs/deployment.md)"
        return warning("memory", f"{text}; SAM 3 needs up to {megabytes(needed)}", advice)
    return ok("memory", f"{text}; enough for the {megabytes(needed)} that SAM 3 needs")


def limit_of(pid: int, processes: Path = Path("/proc"), cgroups: Path = _CGROUPS) -> int:
    """Bytes that a process may use: the machine's memory, or the lowest limit of a cgroup (version 2) that it is in.

    Args:
        processes, cgroups: where the kernel shows both.
    """
    fields = dict(line.split(":", 1) for line in (processes / "meminfo").read_text().splitlines())
    limits = [int(fields["MemTotal"].split()[0]) * 1024]
    for line in (processes / str(pid) / "cgroup").read_text().splitlines():
        number, _, path = line.split(":", 2)
        if number == "0":
            own = cgroups / path.lstrip("/")
            for group in (own, *own.parents):
                limit = group / "memory.max"
                if group.is_relative_to(cgroups) and limit.is_file() and limit.read_text().strip() != "max":
                    limits.append(int(limit.read_text()))
    return min(limits)
