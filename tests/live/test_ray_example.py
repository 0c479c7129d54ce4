"""The example with Ray Data, with a real local Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import fresh_image
from repository import PROJECT
from sam3_triton import Sam3Client

pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[data]'")
parquet = pytest.importorskip("pyarrow.parquet")


def test_each_photo_gets_the_clients_mask(demo_server, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir()
    for number in range(4):
        (photos / f"{number}.png").write_bytes(fresh_image())
    (photos / "broken.png").write_bytes(fresh_image()[:3000])
    script = PROJECT / "docs" / "examples" / "ray_batch.py"
    command = [sys.executable, str(script), str(photos), str(out), "--url", demo_server.grpc_url, "--actors", "2"]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    rows = {Path(row["path"]).name: row for row in parquet.read_table(out).to_pylist()}
    assert rows.keys() == {path.name for path in photos.iterdir()}
    assert "invalid image" in rows.pop("broken.png")["error"]
    with Sam3Client(demo_server.grpc_url) as client:
        for name, row in rows.items():
            wanted = client.predict(photos / name, points=[(60, 40)])
            assert (row["error"], row["mask"]) == ("", wanted.mask_pngs[0])
            assert row["score"] == pytest.approx(wanted.scores[0], abs=1e-4)
