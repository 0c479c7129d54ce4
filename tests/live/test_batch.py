"""`sam3 batch` against the real server, and how it handles a server that stops."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
from pictures import fresh_image
from PIL import Image
from repository import free_ports
from sam3_server import Ports, TritonServer
from sam3_server.model_processes import model_processes
from sam3_triton import Sam3Client, Sam3Error

CLICK = {"points": [[5, 5]]}
PATIENCE_S = 120


class Batch:
    """A folder of photos, a file of prompts, and the command over them."""

    def __init__(self, folder: Path) -> None:
        self.photos, self.out, self.prompts = folder / "photos", folder / "masks", folder / "prompts.jsonl"
        (self.photos / "a").mkdir(parents=True)

    def write(self, *prompts: dict[str, Any]) -> None:
        self.prompts.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))

    def write_many(self, count: int) -> None:
        """Writes `count` small photos and a prompt for each."""
        for number in range(count):
            (self.photos / f"{number}.png").write_bytes(fresh_image())
        self.write(*({"image": f"{number}.png", **CLICK} for number in range(count)))

    def command(self, url: str, *arguments: str) -> list[str]:
        where = [str(self.photos), "--prompts", str(self.prompts), "-o", str(self.out), "--url", url]
        return [sys.executable, "-m", "sam3_triton.cli", "batch", *where, *arguments]

    def run(self, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(url, *arguments), capture_output=True, text=True, timeout=PATIENCE_S)

    def start(self, url: str, *arguments: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(self.command(url, *arguments), **pipes)

    def report(self) -> list[dict[str, Any]]:
        path = self.out / "report.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def files(self) -> dict[str, int]:
        """The files in the folder of masks, and their modification times."""
        files = [path for path in self.out.rglob("*") if path.is_file() and path.name != "report.jsonl"]
        return {str(path.relative_to(self.out)): path.stat().st_mtime_ns for path in files}

    def wait_for_masks(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(self.report()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def told_in(stderr: str) -> list[str]:
    """All lines except progress."""
    return [line for line in stderr.splitlines() if not re.fullmatch(r"\d+ of \d+ prompts(, \d+ failed)?", line)]


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


@pytest.fixture(scope="module")
def harmed_server(exported_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server that tests may stop or damage. It takes seconds to start, so they share one."""
    log_path = tmp_path_factory.mktemp("harmed") / "triton.log"
    with log_path.open("w") as log, TritonServer(exported_demo, log, None, Ports(*free_ports(3))) as server:
        yield server
        server.stop(grace_s=0)  # Triton would wait half a minute for a process that died


@pytest.fixture
def own_server(harmed_server: TritonServer) -> TritonServer:
    """That server, restarted if it no longer answers."""
    try:
        with Sam3Client(harmed_server.grpc_url) as client:
            client.probe()
    except Sam3Error:
        harmed_server.stop(grace_s=0)
        harmed_server.start()
    return harmed_server


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_masks_are_those_of_the_client(server, batch: Batch, scheme: str) -> None:
    single, several = golden.case("coffee/one_point_single"), golden.case("coffee/one_point_multi")
    shutil.copy(single.photo, batch.photos / "a" / "coffee.png")
    points = {"points": single.prompt["points"], "labels": single.prompt["labels"]}
    box = {"box": [100, 50, 300, 300]}
    image = {"image": "a/coffee.png"}
    batch.write({**image, **points, "name": "cup"}, {**image, **points, "multimask": True}, {**image, **box})
    url = {"grpc": server.grpc_url, "http": f"http://{server.http_url}"}[scheme]
    result = batch.run(url)
    assert (result.returncode, told_in(result.stderr)) == (0, [])
    assert result.stdout == f"3 of 3 prompts done: {batch.out / 'report.jsonl'}\n"
    report = batch.report()
    assert [entry["masks"] for entry in report] == [
        ["a/coffee.cup.png"],
        ["a/coffee.2.png", "a/coffee.2.2.png", "a/coffee.2.3.png"],
        ["a/coffee.3.png"],
    ]
    for entry, case in zip(report, (single, several), strict=False):
        masks = [np.asarray(Image.open(batch.out / mask)) for mask in entry["masks"]]
        assert all(set(np.unique(mask)) <= {0, 255} for mask in masks)
        assert min(golden.iou(mask > 0, wanted) for mask, wanted in zip(masks, case.masks, strict=True)) > 0.99
        assert entry["scores"] == pytest.approx(case.scores.tolist(), abs=golden.SCORE_TOLERANCE)
    with Sam3Client(url) as client:
        assert client.predict(single.photo, **box).mask_pngs[0] == (batch.out / "a" / "coffee.3.png").read_bytes()


def test_failures_are_reported_and_do_not_stop_the_others(server, batch: Batch) -> None:
    (batch.photos / "good.png").write_bytes(fresh_image())
    (batch.photos / "broken.png").write_bytes(fresh_image()[:3000])
    os.mkfifo(batch.photos / "pipe.png")
    batch.write(
        {"image": "broken.png", **CLICK},
        {"image": "good.png", **CLICK},
        {"image": "absent.png", **CLICK},
        {"image": "good.png", "points": [[5000, 5]]},
        {"image": "a", **CLICK},
        {"image": "pipe.png", **CLICK},
    )
    result = batch.run(server.grpc_url)
    assert result.returncode == 3
    told = sorted(told_in(result.stderr))
    faults = {
        1: "broken.png: invalid image",
        3: "absent.png: No such file",
        4: "good.png: POINTS[0, 0] is (5000, 5), outside",
    }
    faults |= {5: "a: not a regular file", 6: "pipe.png: not a regular file"}
    assert len(told) == len(faults)
    for line, (number, fault) in zip(told, faults.items(), strict=True):
        assert line.startswith(f"{batch.prompts}:{number}: {fault}")
    report = batch.report()
    assert [entry["line"] for entry in report if "error" in entry] == list(faults)
    assert set(batch.files()) == {"good.2.png"}
    assert result.stdout.startswith("1 of 6 prompts done, 5 failed (run the same command again to retry): ")

    (batch.photos / "absent.png").write_bytes(fresh_image())
    before = batch.files()
    result = batch.run(server.grpc_url)
    assert result.returncode == 3
    assert result.stdout.startswith("2 of 6 prompts done (1 of them by earlier runs), 4 failed")
    assert set(batch.files()) == {"good.2.png", "absent.3.png"}
    assert batch.files()["good.2.png"] == before["good.2.png"]


def test_a_second_run_does_only_what_has_changed(server, batch: Batch) -> None:
    batch.write_many(3)
    assert batch.run(server.grpc_url).returncode == 0
    before = batch.files()
    batch.write(*({"image": f"{number}.png", "points": [[5, 5 + (number == 1)]]} for number in range(3)))
    result = batch.run(server.grpc_url)
    assert result.stdout.startswith("3 of 3 prompts done (2 of them by earlier runs): ")
    changed = {name for name, written in batch.files().items() if before[name] != written}
    assert changed == {"1.2.png"}
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    assert batch.run(nobody).returncode == 0, "finished prompts need no server"


def test_a_server_that_stops_ends_the_run_and_the_next_run_continues(own_server: TritonServer, batch: Batch) -> None:
    batch.write_many(60)
    process = batch.start(own_server.grpc_url, "--wait", "3")
    batch.wait_for_masks(10)
    own_server.stop()
    told = told_in(process.communicate(timeout=PATIENCE_S)[1])
    assert process.returncode == 1
    assert [line.startswith("waiting up to 3 s for the server: ") for line in told] == [True, False]
    ended = len(batch.report())
    assert told[-1].startswith("sam3: stopped: ")
    assert (
        f"no answer for 3 s. {ended} of 60 prompts done, 0 failed; run the same command again to continue" in told[-1]
    )
    before = batch.files()
    assert 10 <= ended == len(before) < 60
    assert not any("error" in entry for entry in batch.report())

    own_server.start()
    result = batch.run(own_server.grpc_url)
    assert (result.returncode, told_in(result.stderr)) == (0, [])
    assert result.stdout.startswith(f"60 of 60 prompts done ({ended} of them by earlier runs): ")
    after = batch.files()
    assert len(after) == 60
    assert {name: after[name] for name in before} == before
    assert [entry["line"] for entry in batch.report()] == list(range(1, 61))


def test_a_server_that_comes_back_in_time_is_waited_for(own_server: TritonServer, batch: Batch) -> None:
    batch.write_many(60)
    process = batch.start(own_server.grpc_url, "--wait", "100")
    batch.wait_for_masks(10)
    own_server.stop()
    time.sleep(3)
    own_server.start()
    out, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert [line.split(" for the server")[0] for line in told_in(told)] == [
        "waiting up to 100 s",
        "the server answers again",
    ]
    assert out.startswith("60 of 60 prompts done: ")


def test_a_model_whose_process_died_fails_no_prompt(own_server: TritonServer, batch: Batch) -> None:
    next(one.process for one in model_processes(own_server.pid) if one.model == "sam3_embedding_cache").kill()
    batch.write_many(8)  # so that some request is in flight at any time
    result = batch.run(own_server.grpc_url, "--wait", "3", "--concurrency", "8")
    assert result.returncode == 1
    assert "sam3: stopped: a model's process has died and must be restarted" in result.stderr
    assert not batch.report()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_is_done(demo_server, batch: Batch, number: signal.Signals) -> None:
    batch.write_many(60)
    process = batch.start(demo_server.grpc_url)
    batch.wait_for_masks(10)
    process.send_signal(number)
    told = told_in(process.communicate(timeout=10)[1])
    assert process.returncode == 130
    ended = len(batch.report())
    assert told == [
        f"sam3: stopped by {number.name}. {ended} of 60 prompts done, 0 failed; run the same command again to continue"
    ]
    assert len(batch.files()) == ended
    result = batch.run(demo_server.grpc_url)
    assert result.stdout.startswith(f"60 of 60 prompts done ({ended} of them by earlier runs): ")


def test_a_killed_run_is_continued(demo_server, batch: Batch) -> None:
    batch.write_many(60)
    process = batch.start(demo_server.grpc_url)
    batch.wait_for_masks(10)
    process.kill()
    process.communicate()
    assert all(Image.open(batch.out / mask).size == (120, 80) for mask in batch.files())
    assert batch.run(demo_server.grpc_url).returncode == 0
    assert [entry["line"] for entry in batch.report()] == list(range(1, 61))
    assert not list(batch.out.rglob("*.part"))


def test_more_requests_in_flight_than_the_server_accepts_all_succeed(demo_server, batch: Batch) -> None:
    batch.write_many(60)
    result = batch.run(demo_server.grpc_url, "--concurrency", "40")
    assert (result.returncode, told_in(result.stderr)) == (0, [])


def test_a_terminal_gets_a_bar(server, batch: Batch) -> None:
    batch.write_many(3)
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)  # if nothing was written, fail instead of waiting
    result = subprocess.run(batch.command(server.grpc_url), stdout=subprocess.PIPE, stderr=theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert result.returncode == 0
    assert "/3 [" in shown
    assert "prompts" in shown
    assert result.stdout.startswith(b"3 of 3 prompts done")
