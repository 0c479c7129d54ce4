"""The metadata of the five distributions is complete and consistent."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from repository import PROJECT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDERS = ("client", "gateway", "export", "server", "demo")


def project(folder: str) -> dict[str, Any]:
    return tomllib.loads((PROJECT / folder / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_metadata_is_complete(folder: str) -> None:
    found = project(folder)
    for key in ("description", "readme", "license", "authors", "keywords", "classifiers", "urls"):
        assert found[key], key
    assert (PROJECT / folder / found["readme"]).is_file()
    assert (PROJECT / folder / "LICENSE").read_text() == (PROJECT / "LICENSE").read_text()


def test_versions_are_equal_and_fit_each_other() -> None:
    projects = [project(folder) for folder in FOLDERS]
    (version,) = {one["version"] for one in projects}
    own = {one["name"] for one in projects}
    wanted = [Requirement(line) for one in projects for line in one["dependencies"]]
    among_us = [requirement for requirement in wanted if requirement.name in own]
    assert among_us
    assert all(version in requirement.specifier for requirement in among_us)


@pytest.mark.parametrize("folder", FOLDERS)
def test_classifiers_name_the_pythons_that_it_runs_on(folder: str) -> None:
    found = project(folder)
    pythons = SpecifierSet(found["requires-python"])
    named = {
        one.rsplit(" ", 1)[1] for one in found["classifiers"] if one.startswith("Programming Language") and "." in one
    }
    assert named == {f"3.{minor}" for minor in range(8, 15) if f"3.{minor}" in pythons}


def test_only_what_needs_the_triton_wheel_excludes_newer_pythons() -> None:
    for folder in ("client", "gateway"):
        assert project(folder)["requires-python"] == ">=3.10"
