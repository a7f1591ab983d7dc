"""What the benchmark knows of a program that it compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.performance.origin import Origin
from benchmarks.performance.processes import Program


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program is to run: its own directory, its port, the origin in front of which it stands."""

    directory: Path
    port: int
    origin: Origin
    cpus: list[int]


@dataclass(frozen=True, slots=True)
class Peer:
    """A program in one configuration."""

    name: str
    shown: str  # how the configuration is explained to the reader
    programs: tuple[str, ...]  # what must be installed
    package: str  # the Debian package that has it; empty for our own
    launch: Callable[[str, Place], Program]
    may_lose: float = 0.001  # requests at the origin per request, above which a run of hits is none
    proxy: bool = True  # False: never asks the origin, whatever is asked of it


@dataclass(slots=True)
class Running:
    """A started peer."""

    peer: Peer
    program: Program | None  # None: there is no proxy, clients go straight to the origin
    port: int

    @property
    def name(self) -> str:
        """The peer's name."""
        return self.peer.name

    def pids(self) -> list[int]:
        """The processes of the peer."""
        return self.program.pids() if self.program else []
