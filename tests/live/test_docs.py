"""Runs the examples of README and docs/ unchanged: fenced blocks of Python and bash. Blocks of sh need Docker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import golden
import pytest
from PIL import Image
from processes import run_gateway

ROOT = Path(__file__).parents[2]
PAGES = sorted({ROOT / "README.md", *ROOT.glob("docs/*.md")})
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(kind, code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (kind, code) in enumerate(BLOCK.findall(page.read_text()), start=1)
]


@pytest.fixture(scope="module")
def addresses(serve, exported_demo_concepts: Path) -> Iterator[dict[str, str]]:
    """The default addresses, and the real ones of a server and a gateway."""
    server = serve(exported_demo_concepts)
    with run_gateway(server.grpc_url) as gateway:
        yield {
            "localhost:8010": server.http_url,
            "localhost:8011": server.grpc_url,
            "localhost:8001": gateway.removeprefix("http://"),
        }


@pytest.mark.parametrize(("kind", "code"), EXAMPLES)
def test_the_example_works(
    kind: str, code: str, addresses: dict[str, str], exported_demo_concepts: Path, tmp_path: Path
) -> None:
    for default, real in addresses.items():
        code = code.replace(default, real)
    # The examples expect a photo and the project's folders.
    Image.open(golden.FOLDER / "coffee.png").convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    for folder in ("demo", "tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "model_repository").symlink_to(exported_demo_concepts)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SAM3_URL": addresses["localhost:8011"]}
    command = [sys.executable, "-c", code] if kind == "python" else ["bash", "-euo", "pipefail", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    if "mask.png" in code:
        assert Image.open(tmp_path / "mask.png").size == (600, 400)


def test_there_are_examples_for_each_surface() -> None:
    pages = {example.id.rsplit("-", 1)[0] for example in EXAMPLES}
    assert {"README", "cli", "client", "gateway", "migration", "tensors"} <= pages
