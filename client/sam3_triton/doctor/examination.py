"""Runs all checks, ordered so that each check comes after those it depends on."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sam3_triton.doctor import host, server
from sam3_triton.doctor.findings import Finding, Mark, fault, is_coloured, ok, skipped, warning
from sam3_triton.doctor.golden import check_golden
from sam3_triton.doctor.golden_concepts import check_golden_concepts
from sam3_triton.doctor.inspector import Inspector
from sam3_triton.doctor.memory import check_memory
from sam3_triton.doctor.repository import check_repository, exported_model, has_concepts
from sam3_triton.wire import Address

_DISTRIBUTION = "sam3-triton"
# Findings that need a server that answers.
_OF_A_SERVER = ("models", "profile", "instances", "model", "click", "concepts", "cache", "memory", "shared memory")
_DEPENDENCIES = ("numpy", "pillow", "tritonclient", "tqdm")


def examine(url: str, repository: Path | None = None, golden: bool = False) -> int:
    """Prints a line for each finding. Returns the exit code: 1 if there is a fault, else 0.

    Args:
        url: Triton's address (see `Sam3Client`).
        repository: a model repository whose artifacts to check; None skips these checks.
        golden: also replay the repository's golden clicks and concepts on the server.

    Raises:
        InvalidUrlError: the URL is invalid.
    """
    address = Address.of(url)
    coloured = is_coloured()
    marks: Counter[Mark] = Counter()
    for finding in _findings(url, address, repository, golden):
        marks[finding.mark] += 1
        print(finding.line(coloured), flush=True)
    print(_summary(marks))
    return 1 if marks[Mark.FAULT] else 0


def _summary(marks: Counter[Mark]) -> str:
    faults, warnings, unknown = marks[Mark.FAULT], marks[Mark.WARNING], marks[Mark.SKIPPED]
    parts = [f"{faults or 'no'} {'fault' if faults == 1 else 'faults'}"]
    if warnings:
        parts.append(f"{warnings} {'warning' if warnings == 1 else 'warnings'}")
    if unknown:
        parts.append(f"{unknown} not checked")
    return ", ".join(parts)


def _findings(url: str, address: Address, repository: Path | None, golden: bool) -> Iterator[Finding]:
    client = list(_check_client())
    yield from client
    if any(finding.mark is Mark.FAULT for finding in client):
        yield skipped("server", "the client cannot send requests")
        return
    here, servers = host.is_here(address), host.running_servers()
    configs = None
    with Inspector(address, server.TIMEOUT_S) as inspector:
        answers, findings = server.check_server(inspector, address)
        yield from findings
        if answers:
            yield from server.check_models(inspector)
            configs = server.Configs.of(inspector)
    if configs is None:
        for subject in _OF_A_SERVER:
            yield skipped(subject, "no server answers")
    else:
        yield server.check_profile(configs)
        yield server.check_instances(configs)
        yield server.check_model(url, None if repository is None else exported_model(repository))
        yield server.check_click(url)
        yield server.check_concepts(url, None if repository is None else has_concepts(repository))
        yield server.check_cache(configs)
        server_here = host.listening(servers, address)
        yield check_memory(configs, here, server_here)
        yield host.check_shared_memory(configs, here, server_here)
    yield host.check_segments(servers)
    yield host.check_cpu(configs, here)
    yield host.check_gpu(configs, here)
    if repository is None:
        yield skipped("repository", "set it with --repository DIR")
        return
    yield from check_repository(repository)
    if golden:
        if configs is None:
            yield skipped("golden", "no server answers")
            return
        yield check_golden(url, configs, repository)
        if has_concepts(repository):
            yield check_golden_concepts(url, configs, repository)


def _check_client() -> Iterator[Finding]:
    versions = {}
    for name in (_DISTRIBUTION, *_DEPENDENCIES):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            yield warning("client", f"{name} is not installed as a package", "pip install sam3-triton")
    try:
        importlib.import_module("tritonclient.grpc")
    except ImportError as error:
        yield fault("client", f"tritonclient.grpc cannot be imported ({error})", "pip install 'tritonclient[grpc]'")
    yield ok("client", ", ".join(f"{name} {found}" for name, found in versions.items()))
