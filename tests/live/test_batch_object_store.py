"""`sam3 batch` with photos, prompts and masks in an object store: moto's S3 server, over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pictures import fresh_image
from repository import free_ports
from sam3_triton.batch.jobs import Job
from sam3_triton.batch.opening import open_store
from sam3_triton.batch.remote_store import RemoteStore
from sam3_triton.batch.report import Report
from sam3_triton.prompts import Prompt

server_of_s3 = pytest.importorskip("moto.server", reason="moto[server] is not installed: pip install --group dev")
pytest.importorskip("s3fs", reason="s3fs is not installed: pip install './client[s3]'")

CLICK = {"points": [[5, 5]]}
PATIENCE_S = 120


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """A server; yields the environment for its clients."""
    (port,) = free_ports(1)
    one = server_of_s3.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    one.start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment
    one.stop()


class Bucket:
    """A bucket with photos, prompts and masks, and the command over them."""

    def __init__(self, name: str) -> None:
        self.url = f"s3://{name}"
        store = open_store(self.url)
        assert isinstance(store, RemoteStore)
        self.store = store
        store._files.mkdir(name)

    def write_many(self, count: int) -> None:
        """Writes `count` photos, each with two prompts that do not follow each other."""
        for number in range(count):
            self.store.write(f"photos/{number}.png", fresh_image())
        prompts = [{"image": f"{n}.png", "name": name, **CLICK} for name in ("a", "b") for n in range(count)]
        self.store.write("in/prompts.jsonl", "".join(json.dumps(one) + "\n" for one in prompts).encode())

    def command(self, triton: str, *arguments: str) -> list[str]:
        where = [f"{self.url}/photos", "--prompts", f"{self.url}/in/prompts.jsonl", "-o", f"{self.url}/masks"]
        return [sys.executable, "-m", "sam3_triton.cli", "batch", *where, "--url", triton, *arguments]

    def run(self, triton: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(triton, *arguments), capture_output=True, text=True, timeout=PATIENCE_S)

    def report(self, name: str = "report.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.store.read(f"masks/{name}").splitlines()]

    def masks(self) -> dict[str, str]:
        """The masks, and their stamps."""
        names = [name for name in self.store.names("masks") if name.endswith(".png")]
        return {name: self.store.status(name).stamp for name in names}


@pytest.fixture
def bucket(s3: dict[str, str], request: pytest.FixtureRequest) -> Bucket:
    return Bucket(f"bucket-{abs(hash(request.node.name))}")


def test_shards_fill_one_folder_and_continue(demo_server, bucket: Bucket) -> None:
    bucket.write_many(8)
    names = [f"report-0000{index}-of-00003.jsonl" for index in range(3)]
    for index, name in enumerate(names):
        result = bucket.run(demo_server.grpc_url, f"--shard={index}/3")
        assert result.returncode == 0, result.stderr
        assert result.stdout.endswith(f"{bucket.url}/masks/{name}\n")
    entries = [entry for name in names for entry in bucket.report(name)]
    assert sorted(entry["output"] for entry in entries) == sorted(f"{n}.{x}.png" for n in range(8) for x in "ab")
    assert bucket.masks().keys() == {f"masks/{entry['output']}" for entry in entries}
    assert len({entry["image"] for entry in entries}) == 8
    assert sorted(bucket.store.names("masks")) == sorted([*bucket.masks(), *(f"masks/{name}" for name in names)])

    changed = bucket.report(names[1])[0]["image"]
    bucket.store.write(f"photos/{changed}", fresh_image())
    before = len(bucket.report(names[1]))
    result = bucket.run(demo_server.grpc_url, "--shard=1/3")
    assert result.stdout.startswith(f"{before} of {before} prompts done ({before - 2} of them by earlier runs): ")


def test_a_photo_that_is_not_there_fails_alone(demo_server, bucket: Bucket) -> None:
    bucket.write_many(2)
    bucket.store.delete("photos/0.png")
    result = bucket.run(demo_server.grpc_url)
    assert result.returncode == 3
    assert f"{bucket.url}/in/prompts.jsonl:1: 0.png: No such file or directory\n" in result.stderr
    assert ["error" in entry for entry in bucket.report()] == [True, False, True, False]


def test_a_killed_run_is_continued(demo_server, bucket: Bucket) -> None:
    bucket.write_many(30)
    process = subprocess.Popen(bucket.command(demo_server.grpc_url, "--concurrency=1"), stderr=subprocess.PIPE)
    deadline = time.monotonic() + PATIENCE_S
    while not bucket.store.names("masks/report.jsonl.parts"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.communicate()
    (part,) = bucket.store.names("masks/report.jsonl.parts")
    kept = [json.loads(line)["output"] for line in bucket.store.read(part).splitlines()]
    assert kept
    before = bucket.masks()

    result = bucket.run(demo_server.grpc_url, "--concurrency=8")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"60 of 60 prompts done ({len(kept)} of them by earlier runs): ")
    after = bucket.masks()
    assert len(after) == len(bucket.report()) == 60
    assert all(after[f"masks/{output}"] == before[f"masks/{output}"] for output in kept)
    assert not bucket.store.names("masks/report.jsonl.parts")


def test_a_store_that_fails_ends_the_run(demo_server, bucket: Bucket) -> None:
    nowhere = {**os.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_ports(1)[0]}", "AWS_MAX_ATTEMPTS": "1"}
    command = bucket.command(demo_server.grpc_url)
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=nowhere)
    assert result.returncode == 1
    assert result.stderr.startswith(f"sam3: {bucket.url}/in/prompts.jsonl: ")
    assert result.stderr.count("\n") == 1


def test_a_long_report_is_written_a_bounded_number_of_times(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = RemoteStore.write

    def count(self: RemoteStore, name: str, content: bytes) -> None:
        written.append(content.count(b"\n") if ".jsonl" in name else 0)
        write(self, name, content)

    monkeypatch.setattr(RemoteStore, "write", count)
    store = open_store(f"{bucket.url}/masks")
    report = Report(store, "report.jsonl")
    jobs = [Job(n, f"{n}.png", Prompt.of([[1, 2]]), (f"{n}.a.png",)) for n in range(1, 2501)]
    for one in jobs:
        report.failed(one, "no luck")
        if one.line % 500 == 0:
            report.flush()
    assert [size for size in written if size] == [500, 1000, 500, 1000, 500]
    assert len(Report(store, "report.jsonl")) == 2500
    report.tidy(jobs)
    assert not bucket.store.names("masks/report.jsonl.parts")
    assert [entry["line"] for entry in bucket.report()] == list(range(1, 2501))
