"""The import rules of CONTRIBUTING, and no import circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from repository import PROJECT

PACKAGES = {
    "sam3_triton": PROJECT / "client" / "sam3_triton",
    "sam3_gateway": PROJECT / "gateway" / "sam3_gateway",
    "sam3_export": PROJECT / "export" / "sam3_export",
    "sam3_server": PROJECT / "server" / "sam3_server",
    "sam3_demo": PROJECT / "demo" / "sam3_demo",
    "benchmarks": PROJECT / "benchmarks",
}
MAY_IMPORT = {
    "sam3_triton": set(),
    "sam3_gateway": {"sam3_triton"},
    "sam3_export": set(),
    "sam3_server": {"sam3_triton"},
    "sam3_demo": {"sam3_triton", "sam3_gateway", "sam3_export", "sam3_server"},
}
TORCH = {"torch", "transformers"}
MAY_IMPORT_TORCH = ("export", "demo", "server/sam3_server/backends/pytorch")
MODELS = PROJECT / "model_repository"


def imports(module: ast.AST) -> Iterator[str]:
    """The full names of a module's imports, including those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_they_may(package: str) -> None:
    others = PACKAGES.keys() - MAY_IMPORT[package] - {package}
    for path in files(PACKAGES[package]):
        wrong = {name for name in imports(parsed(path)) if name.split(".")[0] in others}
        assert not wrong, f"{path.relative_to(PROJECT)} imports {sorted(wrong)}"


def test_torch_is_imported_where_it_may_be() -> None:
    found = set()
    for folder in (*PACKAGES.values(), MODELS):
        for path in files(folder):
            if TORCH & {name.split(".")[0] for name in imports(parsed(path))}:
                found.add(str(path.relative_to(PROJECT)))
    assert found
    outside = {path for path in found if not path.startswith((*MAY_IMPORT_TORCH, "benchmarks"))}
    assert not outside


def test_only_model_files_know_triton() -> None:
    modules = files(MODELS)
    assert modules
    for path in modules:
        knows = "triton_python_backend_utils" in set(imports(parsed(path)))
        assert knows == (path.name == "model.py"), path.relative_to(PROJECT)


def test_names_of_siblings_are_unique() -> None:
    # A link is the same module in a second folder.
    names = [path.name for path in files(MODELS) if path.name != "model.py" and not path.is_symlink()]
    assert len(names) == len(set(names))


def test_no_modules_import_each_other_in_a_circle() -> None:
    paths = {}
    for package, folder in PACKAGES.items():
        for path in files(folder):
            dotted = ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
            paths[dotted] = path
    graph = {
        # Importing a module also imports its package's __init__; that alone is not a circle.
        name: {wanted for wanted in imports(parsed(path)) if wanted in paths and not name.startswith(f"{wanted}.")}
        - {name}
        for name, path in paths.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
