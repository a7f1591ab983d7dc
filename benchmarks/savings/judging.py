"""The figures added up over the seeds, and the targets of savings.md §5 held against them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from benchmarks.savings.play import Figure

SINGLE = ("S0", "S1", "S2")
GROUPS = "ABCDEF"


@dataclass
class Row:
    """One workload over all seeds: what each proxy's origin sent."""

    group: str
    workload: str
    received: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    origin: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    body: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    requests: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    wrong: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failed: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def delivered(self) -> int:
        """To the clients of ours, or of the first proxy when ours did not play."""
        return self.received.get("ours") or next(iter(self.received.values()), 0)

    def best(self) -> str:
        """The Squid configuration with the fewest origin bytes, empty without one."""
        peers = [name for name in self.origin if name != "ours" and not name.startswith("sim ")]
        return min(peers, key=lambda name: self.origin[name], default="")

    def ratio(self, peer: str = "") -> float | None:
        """Origin bytes of ours to those of a peer, or of the best one."""
        peer = peer or self.best()
        if not self.origin.get("ours") or not self.origin.get(peer):
            return None
        return self.origin["ours"] / self.origin[peer]


@dataclass(frozen=True)
class Verdict:
    """One target. `passed` is None where it could not be judged."""

    name: str
    limit: float
    value: float | None

    @property
    def passed(self) -> bool | None:
        return None if self.value is None else self.value <= self.limit


def rows(figures: list[Figure]) -> list[Row]:
    """In the order of the groups, workloads as they were played."""
    found: dict[tuple[str, str], Row] = {}
    for one in figures:
        row = found.setdefault((one.group, one.workload), Row(one.group, one.workload))
        if not one.proxy.startswith("sim "):
            row.received[one.proxy] += one.delivered
        row.origin[one.proxy] += one.origin_bytes
        row.body[one.proxy] += one.origin_body_bytes
        row.requests[one.proxy] += one.origin_requests
        row.wrong[one.proxy] += one.wrong
        row.failed[one.proxy] += one.failed
    return sorted(found.values(), key=lambda row: GROUPS.index(row.group))


def total(parts: list[Row], group: str, name: str) -> Row:
    """The sum of a group's workloads, for the proxies that played all of them."""
    result = Row(group, name)
    some = [row for row in parts if row.group == group]
    for proxy in set.intersection(*(set(row.origin) for row in some)):
        result.origin[proxy] = sum(row.origin[proxy] for row in some)
        result.received[proxy] = sum(row.received[proxy] for row in some)
    return result


def _eviction(row: Row) -> list[Verdict]:
    limits = [("LFUDA", 1.0)] if row.workload.endswith("-25%") else [("LFUDA", 0.97), ("LRU", 0.93)]
    found = [Verdict(f"E {row.workload} / Squid {peer}", limit, row.ratio(peer)) for peer, limit in limits]
    simulated = row.body.get("sim LFUDA+", 0)
    if simulated and row.body.get("ours"):
        found.append(Verdict(f"E {row.workload} / simulated LFUDA+", 1.02, row.body["ours"] / simulated))
    return found


def verdicts(figures: list[Figure]) -> list[Verdict]:
    """Every target that the groups played have."""
    table = rows(figures)
    found: list[Verdict] = []
    limits = {"vary": 0.10, "comp": 0.25, "query": 0.20, "alias": 1.0}
    for row in table:
        limit = {"A": 1.05, "B": 1.02}.get(row.group) or (
            limits.get(row.workload) if row.group == "C" else None
        )
        if limit is not None:
            found.append(
                Verdict(f"{row.group} {row.workload} / best Squid of the workload", limit, row.ratio())
            )
        if row.group == "E":
            found += _eviction(row)
        if row.group == "F":
            found.append(Verdict("F office day / best single Squid", 0.80, row.ratio()))
            found.append(Verdict("F office day / Squid's default", 0.55, row.ratio("S0")))
    if any(row.group == "A" for row in table):
        found.append(Verdict("A sum / best single Squid", 0.35, total(table, "A", "sum").ratio()))
    ours = [one for one in figures if one.proxy == "ours"]
    if ours:
        found.append(Verdict("wrong or wrongly shared bodies", 0, float(sum(one.wrong for one in ours))))
        found.append(Verdict("failed replies", 0, float(sum(one.failed for one in ours))))
    return found
