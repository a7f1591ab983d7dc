"""The simulations on traces that can be worked out by hand, and the reader of `.npz`."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from benchmarks.savings.group_e import replays
from benchmarks.savings.proxies import MIB
from benchmarks.savings.simulation import POLICIES, simulate
from benchmarks.savings.traces import Trace, office_week, read


def column(kind: str, code: str, values: list[int]) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({len(values)},), }}"
    header = header.ljust(117) + "\n"
    return (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", len(header))
        + header.encode()
        + struct.pack(f"<{len(values)}{code}", *values)
    )


def test_reads_npz(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("id.npy", column("<i4", "i", [7, 8, 7]))
        archive.writestr("size.npy", column("<i8", "q", [100, 2**40, 100]))
    path = tmp_path / "small.npz"
    path.write_bytes(data.getvalue())
    trace = read(path)
    assert trace == Trace("small", ((7, 100), (8, 2**40), (7, 100)))
    assert trace.footprint() == 100 + 2**40
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"small\.npz"):
        read(path)


@pytest.mark.parametrize(
    ("policy", "misses"),
    [
        # Room for two of three objects. The first two requests warm: a a | a b c a b c a c.
        ("LRU", 6),  # only the first a and the last c are there
        ("LFUDA", 4),  # a stays; b and c drive each other out
        ("LFUDA+", 4),
    ],
)
def test_small_caches(policy: str, misses: int) -> None:
    requests = tuple((ord(one), 10) for one in "aaabcabcac")
    outcome = simulate(Trace("t", requests), 20, policy)
    assert outcome.requests == 8
    assert outcome.fetched == 10 * outcome.misses
    assert outcome.misses == misses


@pytest.mark.parametrize("policy", POLICIES)
def test_a_cache_that_holds_all_misses_each_object_once(policy: str) -> None:
    trace = Trace("t", tuple((n % 50, 100 + n % 50) for n in range(1000)))
    assert simulate(trace, trace.footprint(), policy).misses == 0  # the warm-up has had them all


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_larger_than_the_cache_passes(policy: str) -> None:
    assert simulate(Trace("t", ((1, 100),) * 10), 50, policy).misses == 8


def test_the_made_up_week_is_always_the_same() -> None:
    week = office_week(3000)
    assert week == office_week(3000)
    assert len(week.requests) == 3000
    assert week.footprint() < week.asked()


def test_caches_are_whole_mebibytes_of_the_sampled_footprint() -> None:
    for one in replays(None, 8, 0.25, 5000):
        assert one.disk_bytes % MIB == 0
        assert one.disk_bytes >= MIB
