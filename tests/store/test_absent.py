"""A key counts as absent only while nothing can be there."""

from __future__ import annotations

import pytest

from cacheproxy.store import absent
from cacheproxy.store.absent import Absent

KEY = "http://h/a"


@pytest.mark.parametrize(
    ("what", "steps", "is_absent"),
    [
        ("never asked", [], False),
        ("asked in vain", ["ask 1", "none 1"], True),
        ("asked, not answered", ["ask 1"], False),
        ("found", ["ask 1", "found 1"], False),
        ("stored after", ["ask 1", "none 1", "storing"], False),
        ("asked while it is on its way", ["storing", "ask 1", "none 1"], False),
        ("one of two on its way", ["storing", "storing", "settled", "ask 1", "none 1"], False),
        ("stored meanwhile", ["ask 1", "storing", "settled", "none 1"], False),
        ("an older answer than the store", ["ask 1", "storing", "settled", "ask 2", "none 1"], False),
        ("a newer one", ["ask 1", "storing", "settled", "ask 2", "none 1", "none 2"], True),
        ("two at once", ["ask 1", "ask 2", "none 1", "none 2"], True),
        ("again after it has gone", ["storing", "settled", "ask 1", "none 1"], True),
        ("settled once more than begun", ["settled", "ask 1", "none 1"], True),
    ],
)
def test_when_a_key_is_absent(what: str, steps: list[str], is_absent: bool) -> None:
    known = Absent()
    began: dict[str, int] = {}
    for step in steps:
        kind, _, number = step.partition(" ")
        if kind == "ask":
            began[number] = known.ask()
        elif kind in ("none", "found"):
            known.answered(KEY, began[number], is_absent=kind == "none")
        else:
            getattr(known, kind)(KEY)
    assert (KEY in known) is is_absent, what
    assert "http://h/other" not in known


def test_it_stays_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absent, "_GENERATION", 10)
    known = Absent()
    for number in range(100):
        key = f"http://h/{number}"
        known.answered(key, known.ask(), is_absent=True)
    assert sum(f"http://h/{number}" in known for number in range(100)) == 20
    assert "http://h/99" in known
    assert not known._under_way


def test_changes_while_a_look_up_is_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absent, "_GENERATION", 10)
    known = Absent()
    first = known.ask()
    for number in range(25):
        known.settled(f"http://h/{number}")
        assert len(known._changed) <= 10
    second = known.ask()
    # Of the first nobody knows any more whether its key changed.
    known.answered(KEY, first, is_absent=True)
    assert KEY not in known
    known.answered(KEY, second, is_absent=True)
    assert KEY in known
    assert not known._changed
