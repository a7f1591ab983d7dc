"""What `serve` prints once it listens."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from cacheproxy import __version__
from cacheproxy.config.model import Config


@dataclass(frozen=True, slots=True)
class Greeting:
    """What `serve` prints once it listens."""

    urls: list[str]
    directory: Path
    memory: str
    disk: str

    def __str__(self) -> str:
        return (
            f"cacheproxy {__version__} listens on {', '.join(self.urls)}\n"
            f"  cache: {self.directory} (memory {self.memory}, disk {self.disk})\n"
            f"  try:   curl -x {self.urls[0]} http://deb.debian.org/debian/README\n"
        )


def greet(config: Config, urls: list[str], directory: Path) -> None:
    """Say on standard error where the proxy listens."""
    memory, disk = (config.show(name).strip('"') for name in ("cache.memory", "cache.disk"))
    sys.stderr.write(str(Greeting(urls, directory, memory, disk)))
    sys.stderr.flush()
