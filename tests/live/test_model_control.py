"""Models that are loaded one by one, by Triton's explicit model control."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from pictures import fresh_image
from repository import free_ports
from sam3_server import installation
from sam3_triton import Sam3Client, ServerUnavailableError
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException


def test_without_the_encoder_a_miss_is_told_to_come_again(exported: Path, tmp_path: Path) -> None:
    ports = free_ports(3)
    with installation.find() as found, (tmp_path / "log").open("w") as log:
        command = [
            str(found.binary),
            f"--model-repository={exported}",
            f"--backend-directory={found.backend_directory}",
            "--model-control-mode=explicit",
            "--load-model=sam3",
            *(f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), ports, strict=True)),
        ]
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **found.environment})
        try:
            control = InferenceServerClient(f"127.0.0.1:{ports[1]}")
            wait_until_ready(control, process)
            image = fresh_image()
            with Sam3Client(f"127.0.0.1:{ports[1]}") as client:
                with pytest.raises(ServerUnavailableError, match="sam3_encode"):
                    client.predict(image, points=[[5, 5]])
                control.load_model("sam3_encode")
                assert not client.predict(image, points=[[5, 5]]).cache_hit
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(client: InferenceServerClient, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if client.is_server_ready():
                return
        except InferenceServerException:
            assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
