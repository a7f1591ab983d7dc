"""What was noticed a while ago: how long it holds, and how many are kept."""

from __future__ import annotations

from cacheproxy.engine.lately import Lately


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_name_holds_for_its_time_from_the_last_time_it_was_added() -> None:
    time = Time()
    lately = Lately(10, 30.0, time)
    assert lately.is_empty
    lately.add("a")
    time.now += 20
    lately.add("b")
    assert "a" in lately and "b" in lately and "c" not in lately
    lately.add("a")
    time.now += 29
    assert "a" in lately and "b" in lately
    time.now += 1
    assert "a" not in lately and "b" not in lately


def test_it_is_empty_again_whoever_asks() -> None:
    time = Time()
    lately = Lately(10, 30.0, time)
    lately.add("a")
    time.now += 31
    assert "other" not in lately
    assert lately.is_empty


def test_the_first_goes_where_there_are_too_many() -> None:
    lately = Lately(2, 30.0, Time())
    for name in ("a", "b", "a", "c"):
        lately.add(name)
    assert [name for name in "abc" if name in lately] == ["a", "c"]
