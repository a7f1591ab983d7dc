"""The scripts on a machine that lacks something: one line that says what to install, exit 1."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        ("import venv", "sudo apt-get install -y python3-venv"),
        ("version_info", "Python 3.11 or newer is needed"),
    ],
)
def test_setup_says_what_is_missing(tmp_path: Path, breaks: str, says: str) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "clone" / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "clone")
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\ncase "$*" in *"{breaks}"*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        [tmp_path / "clone" / "scripts" / "run"],
        env={"PATH": f"{fake.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
