"""The cache directory: made on first use, held by one process, refused with one clear line."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cacheproxy.errors import StartError
from cacheproxy.store.directory import CacheDirectory

_NOBODY = 65534


def test_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """Also where its parents are missing."""
    path = tmp_path / "a" / "b"
    directory = CacheDirectory(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert (path / "lock").read_text() == f"{os.getpid()}\n"
    directory.close()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """The message names the process that has it; nothing leaks from the refusal."""
    held = CacheDirectory(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StartError, match=f"in use by another cacheproxy.*{os.getpid()}"):
            CacheDirectory(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    held.close()
    CacheDirectory(tmp_path).close()


def test_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    """A killed process leaves its lock file, not its lock; a longer process id does not shine through."""
    script = (
        "import os, signal, sys, pathlib\n"
        "from cacheproxy.store.directory import CacheDirectory\n"
        "CacheDirectory(pathlib.Path(sys.argv[1]))\n"
        "print('held', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "held\n"
    assert (tmp_path / "lock").exists()
    (tmp_path / "lock").write_text("1234567890123\n")
    directory = CacheDirectory(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    directory.close()


@pytest.mark.parametrize("below", ["", "inside"])
def test_a_file_in_the_way(tmp_path: Path, below: str) -> None:
    """The path, or one of its parents, is a file."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StartError, match="cannot be made"):
        CacheDirectory(tmp_path / "file" / below)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may write everywhere: for as long as this is used it is somebody else."""
    own = os.getresuid()
    if own[1] == 0:
        os.setresuid(_NOBODY, _NOBODY, 0)
    yield
    os.setresuid(*own)


def test_not_writable(nobody: None) -> None:
    """The message says what to try."""
    # Not below pytest's own directory, which only who made it may enter.
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o500)
        try:
            with pytest.raises(StartError, match="not writable; choose another with --cache-dir"):
                CacheDirectory(path)
        finally:
            path.chmod(0o700)
