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

    addresses: list[tuple[str, int]]
    directory: Path
    memory: str
    disk: str

    def __str__(self) -> str:
        where = ", ".join(
            f"http://{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.addresses
        )
        return (
            f"cacheproxy {__version__} listens on {where}\n"
            f"  cache: {self.directory} (memory {self.memory}, disk {self.disk})\n"
            f"  try:   curl -x {where.partition(',')[0]} http://deb.debian.org/debian/README\n"
        )


def greet(config: Config, addresses: list[tuple[str, int]], directory: Path) -> None:
    """Say on standard error where the proxy listens."""
    memory, disk = (config.show(name).strip('"') for name in ("cache.memory", "cache.disk"))
    sys.stderr.write(str(Greeting(addresses, directory, memory, disk)))
    sys.stderr.flush()
