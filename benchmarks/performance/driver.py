"""Runs suites: warms, then slots in rotating order, round by round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.performance import resting
from benchmarks.performance.bulk import Bulk
from benchmarks.performance.load import Load, Wrk
from benchmarks.performance.origin import Origin
from benchmarks.performance.peers.peer import Running
from benchmarks.performance.peers.registry import Stable
from benchmarks.performance.processes import BenchmarkError
from benchmarks.performance.setup_rate import SetupRate
from benchmarks.performance.slots import Meter, Slot
from benchmarks.performance.suites import Suite
from benchmarks.performance.traffic import script as lua_of
from benchmarks.performance.warming import warm

MAY_LEAVE_OUT = 0.1
Say = Callable[[str], None]


def rotated(names: list[str], number: int) -> list[str]:
    """The order of round `number`, so that no peer is always after the same other, at the same place."""
    step = number % len(names)
    return names[step:] + names[:step]


@dataclass(slots=True)
class Driver:
    """Everything that a suite needs while it runs."""

    directory: Path
    origin: Origin
    peers: Stable
    absent: dict[str, str]
    say: Say
    meter: Meter = field(init=False)
    slots: list[Slot] = field(default_factory=list)
    troubles: dict[str, str] = field(default_factory=dict)  # "suite peer" -> what went wrong

    _left_out: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.meter = Meter(self.origin)

    def run(self, suite: Suite, rounds: int) -> list[Slot]:
        """All rounds of one suite."""
        targets = self._targets(suite)
        load = self._load(suite)
        found: list[Slot] = []
        for number in range(rounds):
            for name in rotated(list(targets), number):
                target = targets[name]
                try:
                    slot = self.meter.measure(suite.name, suite.expect, target, load, number)
                    if target.program is not None:
                        target.program.check()
                except (BenchmarkError, OSError) as error:
                    self._trouble(suite, name, error)
                    continue
                found.append(slot)
        self.slots += found
        return found

    def rest(self, connections: int) -> list[resting.Resting]:
        """Memory of idle connections, peer by peer."""
        found = []
        for name in resting.PEERS:
            if name in self.absent:
                continue
            self.peers.end(name)  # memory that an earlier suite freed would be used again and not show
            try:
                found.append(resting.measure(self.peers.get(name), self.origin, connections))
            except (BenchmarkError, OSError) as error:
                self.say(f"! idle memory: {name}: {error}")
        return found

    def _targets(self, suite: Suite) -> dict[str, Running]:
        """The suite's peers that run here, started and warmed."""
        found: dict[str, Running] = {}
        self._left_out = set()
        for name in suite.peers:
            if name in self.absent:
                continue
            try:
                target = self.peers.get(name)
                if suite.load == "wrk" and suite.traffic.warmed and target.peer.proxy:
                    self._warm(suite, target)
            except (BenchmarkError, OSError) as error:
                self._trouble(suite, name, error)
                continue
            found[name] = target
        if self._left_out:
            count, all_of = len(self._left_out), suite.traffic.objects
            self.say(
                f"{suite.name}: {count} of {all_of} objects are left out for all: a peer does not keep them"
            )
        return found

    def _warm(self, suite: Suite, target: Running) -> None:
        """Squid's rock loses objects whose keys share a slot: those are left out for everybody, if they are few."""
        paths = suite.traffic.paths()
        unsettled = warm(target, self.origin.authority, paths)
        if len(unsettled) > len(paths) * MAY_LEAVE_OUT:
            raise BenchmarkError(f"does not keep {len(unsettled)} of {len(paths)} objects")
        self._left_out |= {number for number, path in enumerate(paths, 1) if path in unsettled}

    def _trouble(self, suite: Suite, name: str, error: Exception) -> None:
        self.troubles[f"{suite.name} {name}"] = str(error)
        self.say(f"! {suite.name}: {name}: {error}")

    def _load(self, suite: Suite) -> Load:
        if suite.load == "wrk":
            script = self.directory / f"{suite.name}.lua"
            script.write_text(lua_of(suite.traffic, self.origin.authority, self._left_out))
            return Wrk(script, suite.traffic.connections, suite.seconds)
        path = suite.traffic.path(1)
        if suite.load == "tunnel-setup":
            return SetupRate(self.origin.authority, path, suite.traffic.connections)
        return Bulk(self.origin.authority, path, tunnel=suite.load == "tunnel")
