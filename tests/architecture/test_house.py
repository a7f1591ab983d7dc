"""The house: import directions, forbidden imports, sizes, names (cacheproxy/ARCHITECTURE.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cacheproxy"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Top to bottom; a module may import what stands on a lower line. Siblings share a line.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"workers"},
    {"app"},
    {"options"},
    {"config"},
    {"server", "admin"},
    {"engine", "tunnel", "store", "upstream", "telemetry", "clock"},
    {"channel"},
    {"tasks", "sockets", "cork"},
    {"ports"},
    {"policy"},
    {"caching"},
    {"http"},
    {"errors"},
    {"reasons"},
]
LEVEL = {name: number for number, names in enumerate(LAYERS) for name in names}
ONLY_APP = {"store", "upstream", "telemetry", "clock"}
PURE = {"http", "caching", "policy", "errors", "reasons"}
NOT_PURE = {
    "asyncio", "aiohttp", "sqlite3", "aiosqlite", "socket", "time", "random", "logging", "click", "os", "threading",
}  # fmt: skip
OWNERS = {
    "aiohttp": {"server", "admin", "app"},
    "sqlite3": {"store"},
    "aiosqlite": {"store"},
    "click": {"cli"},
    "rich": {"cli"},
}
CLOCKS = {("time", "time"), ("time", "monotonic"), ("datetime", "now"), ("asyncio", "create_task")}
BANNED_NAMES = {"utils", "helpers", "common", "manager"}
MAX_LINES = 350
MAX_FUNCTION_LINES = 70


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(tree: ast.AST) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide their direction"
            found.append(node.module or "")
    return found


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.fixture(params=MODULES, ids=named)
def module(request: pytest.FixtureRequest) -> tuple[Path, ast.Module]:
    return request.param, ast.parse(request.param.read_text(encoding="utf-8"))


def test_every_module_has_a_layer(module: tuple[Path, ast.Module]) -> None:
    assert part_of(module[0]) in LEVEL or module[0].name == "__init__.py"


def test_imports_point_down(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    part = part_of(path)
    if part == "__init__":
        return
    for name in imports_of(tree):
        if not name.startswith("cacheproxy."):
            continue
        target = name.split(".")[1]
        assert target == part or LEVEL[target] > LEVEL[part], f"{named(path)} imports {name}"
        if target in ONLY_APP:
            assert part in (target, "app", "options", "workers"), (
                f"only app, its options and workers may import {target}: {named(path)}"
            )


def test_libraries_stay_with_their_owners(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    part = part_of(path)
    for name in imports_of(tree):
        library = name.split(".")[0]
        assert part in OWNERS.get(library, {part}), f"{named(path)} imports {library}"
        assert part not in PURE or library not in NOT_PURE, f"{named(path)} imports {library}"


def test_pure_parts_have_no_coroutines(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    if part_of(path) in PURE:
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


def test_time_and_tasks_come_from_one_place(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    if part_of(path) in ("clock", "tasks", "cli"):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in CLOCKS, f"{named(path)}:{node.lineno}"


def test_files_and_functions_stay_small(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES, f"{named(path)} has two jobs?"
    assert path.stem not in BANNED_NAMES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{named(path)}: {node.name} has {length} lines"


def test_public_names_have_docstrings(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    assert ast.get_docstring(tree), f"{named(path)} says nothing about itself"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith(
            "_"
        ):
            assert ast.get_docstring(node), f"{named(path)}: {node.name}"


def test_top_level_is_fixed() -> None:
    root = PACKAGE.parent
    allowed = {"pyproject.toml", "README.md", "cacheproxy", "tests", "benchmarks", "scripts"}
    found = {
        path.name
        for path in root.iterdir()
        if not path.name.startswith(".") and not path.name.endswith(".egg-info")
    }
    assert found <= allowed
