"""All peers by name, and which of them this machine has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.performance.origin import Origin
from benchmarks.performance.peers import nginx, own, squid, trafficserver
from benchmarks.performance.peers.peer import Peer, Place, Running
from benchmarks.performance.processes import cores, free_port, missing

PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (*own.PEERS, *squid.PEERS, *trafficserver.PEERS, *nginx.PEERS)
}


def absent(names: Iterable[str]) -> dict[str, str]:
    """Peers that cannot run here, with what is missing."""
    found = {}
    for name in names:
        lacking = missing(*PEERS[name].programs)
        if lacking:
            found[name] = f"{lacking} is not installed (Debian package {PEERS[name].package})"
    return found


@dataclass(slots=True)
class Stable:
    """Starts peers when they are first needed and ends them all."""

    directory: Path
    origin: Origin
    running: dict[str, Running] = field(default_factory=dict)

    def get(self, name: str) -> Running:
        """The running peer of this name. Raises BenchmarkError when it does not start."""
        if name not in self.running:
            self.running[name] = self._start(PEERS[name])
        return self.running[name]

    def _start(self, peer: Peer) -> Running:
        if peer.name == "direct":
            return Running(peer, None, self.origin.port)
        directory = self.directory / peer.name
        directory.mkdir()
        directory.chmod(0o755)
        place = Place(directory, free_port(), self.origin, cores()[0])
        return Running(peer, peer.launch(peer.name, place), place.port)

    def end(self, name: str) -> None:
        """End one peer; its next use starts it anew in an empty directory."""
        found = self.running.pop(name, None)
        if found is not None and found.program is not None:
            found.program.stop()
            (self.directory / name).rename(self.directory / f"{name}.ended.{found.program.process.pid}")

    def stop(self) -> None:
        """End every peer."""
        for name in list(self.running):
            self.end(name)
