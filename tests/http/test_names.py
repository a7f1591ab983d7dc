"""Names of field lines: what is derived is what the lines themselves would give, and what is remembered is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.http import names
from cacheproxy.http.message import Fields
from cacheproxy.http.names import names_of

NAME = st.sampled_from(["A", "a", "B", "b", "C"])
LINES = st.lists(st.tuples(NAME, st.text("xyz", max_size=2)), max_size=6)
STEPS = st.lists(st.one_of(st.tuples(NAME, st.just("more")), st.sets(st.sampled_from("abc"))), max_size=8)


@given(LINES, STEPS)
def test_fields_made_from_fields_are_those_of_their_lines(
    lines: list[tuple[str, str]], steps: list[tuple[str, str] | set[str]]
) -> None:
    fields = Fields(lines)
    for step in steps:
        if isinstance(step, tuple):
            fields = fields.plus(step)
            lines = [*lines, step]
        else:
            fields = fields.without(step)
            lines = [line for line in lines if line[0].lower() not in step]
        assert list(fields) == lines
        fresh = Fields(lines)
        assert list(fields.names()) == list(fresh.names()) == list(fields.named.lower)
        for name in "abcd":
            values = tuple(value for key, value in lines if key.lower() == name)
            assert fields.all(name) == values
            assert fields.get(name) == (", ".join(values) if values else None)
            assert fields.only(name) == (values[0] if len(values) == 1 else None)
            assert (name in fields) == bool(values)


def test_equal_names_are_shared() -> None:
    assert names_of(("A", "B")) is names_of(("A", "B"))
    assert names_of(("A", "B")) is not names_of(("a", "B"))


def test_names_are_remembered_within_bounds() -> None:
    most = 0
    for number in range(2000):
        many = tuple([f"X-{number}-{line}" for line in range(number % 50)])
        names_of(many).plus(("Via",)).without(frozenset({"via"}))
        most = max(most, sum(len(known) for known in names._memo.known))
    assert 0 < most * names._LINE <= names._KNOWN_BYTES
    one = names_of(("A", "B"))
    for number in range(100):
        one.plus((f"X-{number}",))
        one.without(frozenset({f"x-{number}"}))
    assert max(len(one._extended), len(one._reduced)) <= names._MAX_DERIVED


def test_long_names_are_not_remembered() -> None:
    long = ("X" * 2000,)
    assert names_of(long) is not names_of(long)
    assert names_of(long).at == {"x" * 2000: (0,)}


def test_what_comes_of_long_lists_of_names_is_not_remembered() -> None:
    """A 304, or a directive, may name as much as fits into a head: that must not stay with names that stay."""
    one = names_of(("A", "B"))
    one._reduced.clear(), one._extended.clear(), one._picks.clear()
    for many in ([f"n{number}" for number in range(17)], ["n" * 257]):
        assert one.without(frozenset({*many, "a"}))[1].as_sent == ("B",)
        assert one.plus(tuple(many)).as_sent == ("A", "B", *many)
        assert one.picking(frozenset({*many, "b"}))(("1", "2")) == ("2",)
    assert not (one._reduced or one._extended or one._picks)
    before = names._memo.bytes
    one.without(frozenset({"a"}))
    assert one._reduced
    assert names._memo.bytes > before


def test_what_is_derived_counts() -> None:
    one = names_of(("A", "B"))
    for number in range(names._KNOWN_BYTES // names._BASE + 1):
        one.picking(frozenset({f"x{number}"}))
        assert names._memo.bytes <= names._KNOWN_BYTES
    assert ("A", "B") not in names._memo.known
