"""The documents against the code: settings, commands, layers, dependencies."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from cacheproxy.cli import act, configure, look, serve  # noqa: F401 - importing them registers the commands
from cacheproxy.cli.main import cli
from cacheproxy.config.table import renewed
from tests.architecture.test_house import LAYERS, PACKAGE

ROOT = PACKAGE.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (PACKAGE / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_readme_has_every_setting_as_it_is() -> None:
    assert renewed(README) == README, "run: python -m cacheproxy.config.table --write"


def test_readme_names_every_command() -> None:
    for name in cli.commands:
        assert f"| `{name}" in README, name


def test_readme_says_why_for_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"]:
        library = re.split(r"[<>=]", requirement)[0]
        assert f"| {library} |" in README, library


def test_architecture_shows_the_layers_that_are_tested() -> None:
    block = ARCHITECTURE.split("```")[3]
    shown = [
        {name.strip() for name in line.split("|")}
        for line in block.replace("\n", " ").split(">")
        if line.strip()
    ]
    assert shown == [set(layer) for layer in LAYERS]


def test_scripts_are_there_and_executable() -> None:
    for name in ("run", "test", "check", "bench"):
        assert (ROOT / "scripts" / name).stat().st_mode & 0o111, name
    assert Path(ROOT / ".ci" / "run").stat().st_mode & 0o111
