"""Finds NVIDIA's GPUs with the driver's own library, which needs neither CUDA nor a Python package."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

_DRIVER = "libcuda.so.1"
# CUDA_ERROR_NO_DEVICE in cuda.h.
_NO_DEVICE = 100
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpus:
    """The GPUs that a server started by this process can use; without any, the reason."""

    names: tuple[str, ...] = ()
    reason: str = ""


def find() -> Gpus:
    """Asks the driver for the GPUs. It obeys CUDA_VISIBLE_DEVICES."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return Gpus(reason=f"there is no NVIDIA driver ({_DRIVER})")
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code in (0, _NO_DEVICE) and not count.value:
        hidden = f" with {_VISIBLE}={os.environ[_VISIBLE]}" if _VISIBLE in os.environ else ""
        return Gpus(reason=f"the NVIDIA driver finds no GPU{hidden}")
    if code:
        return Gpus(reason=f"the NVIDIA driver fails: {_error(driver, code)}")
    return Gpus(tuple(_name(driver, index) for index in range(count.value)))


def _name(driver: ctypes.CDLL, index: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    if driver.cuDeviceGet(ctypes.byref(device), index) or driver.cuDeviceGetName(name, len(name), device):
        return f"GPU {index}"
    return name.value.decode(errors="replace")


def _error(driver: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    if driver.cuGetErrorString(code, ctypes.byref(text)) or not text.value:
        return f"error {code}"
    return text.value.decode(errors="replace")
