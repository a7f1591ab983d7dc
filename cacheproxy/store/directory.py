"""The cache directory: made on first use, private to its owner, held by one process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cacheproxy.errors import StartError


class CacheDirectory:
    """The directory and the lock on it. Raises StartError where it cannot be used; close it at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"the cache directory {path} cannot be made: {error.strerror}") from None
        if not os.access(path, os.W_OK | os.X_OK):
            raise StartError(f"the cache directory {path} is not writable; choose another with --cache-dir")
        try:
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"the cache directory {path} is not writable: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._lock, 32).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise StartError(
                f"the cache directory {path} is in use by another cacheproxy"
                f"{f' (process {holder})' if holder else ''}; stop it or choose another with --cache-dir"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)
