"""The memory tier against a naive model: a list of (id, candidate), the least recently used first."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cacheproxy.http.ranges import Slice
from cacheproxy.ports import Candidate
from cacheproxy.store.memory import MemoryBody, MemoryTier, weigh
from tests.store.conftest import KIB, MIB, content, read, response

LIMIT = 32 * KIB
KEYS = [f"http://h/{name}" for name in "abc"]
IDS = st.integers(1, 12)


def candidate(entry_id: int, key: str, body: bytes, variant: str = "") -> Candidate:
    """An entry; its fields make it heavier than its body alone."""
    nominated, values = (("accept",), (variant,)) if variant else ((), ())
    stored = response(key, nominated=nominated, variant=values)
    return Candidate(stored.with_body(entry_id, entry_id, len(body)), MemoryBody(body), "memory")


class LruMachine(RuleBasedStateMachine):
    """`weigh` is the unit: a second opinion about it would only repeat it."""

    def __init__(self) -> None:
        super().__init__()
        self.tier = MemoryTier(LIMIT)
        self.model: list[Candidate] = []

    def _forget(self, entry_id: int) -> None:
        self.model = [one for one in self.model if one.stored.entry_id != entry_id]

    @rule(
        entry_id=IDS,
        key=st.sampled_from(KEYS),
        size=st.integers(0, 40 * KIB),
        variant=st.sampled_from(["", "x"]),
    )
    def put(self, entry_id: int, key: str, size: int, variant: str) -> None:
        """What does not fit at all replaces nothing but its own old form."""
        new = candidate(entry_id, key, bytes(size), variant)
        self.tier.put(new)
        self._forget(entry_id)
        if weigh(new) <= LIMIT:
            while sum(map(weigh, self.model)) + weigh(new) > LIMIT:
                self.model.pop(0)
            self.model.append(new)

    @rule(entry_id=IDS)
    def touch(self, entry_id: int) -> None:
        """A use makes it the last to go."""
        self.tier.touch(entry_id)
        self.model.sort(key=lambda one: one.stored.entry_id == entry_id)

    @rule(entry_id=IDS)
    def drop(self, entry_id: int) -> None:
        """Known or not."""
        self.tier.drop(entry_id)
        self._forget(entry_id)

    @rule(key=st.sampled_from(KEYS))
    def drop_key(self, key: str) -> None:
        """Every entry of a key."""
        self.tier.drop_key(key)
        self.model = [one for one in self.model if one.stored.key != key]

    @rule(key=st.sampled_from(KEYS), entry_id=IDS, variant=st.sampled_from(["", "x"]))
    def replace_older(self, key: str, entry_id: int, variant: str) -> None:
        """Older entries of the same key and variant go."""
        new = candidate(entry_id, key, b"", variant).stored
        self.tier.replace_older(new)
        self.model = [
            one
            for one in self.model
            if (one.stored.key, one.stored.variant) != (key, new.variant) or one.stored.entry_id >= entry_id
        ]

    @invariant()
    def weights_add_up(self) -> None:
        """The bytes in use are the weights', within the limit."""
        assert self.tier.bytes == sum(weigh(one) for one in self.tier) <= LIMIT

    @invariant()
    def agrees(self) -> None:
        """Both ways in, by key and over everything, show the model's entries."""
        assert len(self.tier) == len(self.model)
        assert {id(one) for one in self.tier} == {id(one) for one in self.model}
        for key in KEYS:
            found = self.tier.find(key)
            assert len(found) == len(set(map(id, found)))
            assert {id(one) for one in found} == {id(one) for one in self.model if one.stored.key == key}

    @invariant()
    def no_empty_groups(self) -> None:
        """A key without entries leaves nothing behind."""
        assert set(self.tier._by_key) == {one.stored.key for one in self.model}


LruMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, database=None, derandomize=True
)
TestLru = LruMachine.TestCase


def test_an_entry_moves_between_keys() -> None:
    """An id that comes back under another key is found there only."""
    tier = MemoryTier(LIMIT)
    tier.put(candidate(1, KEYS[0], b"old"))
    tier.put(candidate(1, KEYS[1], b"new"))
    assert tier.find(KEYS[0]) == ()
    assert [one.body.whole() for one in tier.find(KEYS[1])] == [b"new"]


def test_finding_is_no_use() -> None:
    """Only `touch` saves from eviction."""
    # Room for two.
    tier = MemoryTier(weigh(candidate(1, KEYS[0], bytes(2000))) * 5 // 2)
    tier.put(candidate(1, KEYS[0], bytes(2000)))
    tier.put(candidate(2, KEYS[1], bytes(2000)))
    tier.find(KEYS[0])
    tier.put(candidate(3, KEYS[2], bytes(2000)))
    assert tier.find(KEYS[0]) == ()
    tier.touch(2)
    tier.put(candidate(4, KEYS[0], bytes(2000)))
    assert tier.find(KEYS[1])
    assert tier.find(KEYS[2]) == ()


def test_the_share_of_one_object() -> None:
    """Design §1.6: objects above 1/64 of memory stay out."""
    assert MemoryTier(64 * MIB).object_bytes == MIB


@pytest.mark.parametrize(
    "part", [None, Slice(0, 1), Slice(5, 5), Slice(256 * KIB - 1, 256 * KIB + 1), Slice(0, 600_000)]
)
async def test_reading_from_memory(part: Slice | None) -> None:
    """Pieces add up to the part; none is large."""
    data = content("memory", 600_000)
    body = MemoryBody(data)
    assert body.available == len(data)
    assert body.whole() is data
    start, end = (0, len(data)) if part is None else (part.start, part.end)
    assert await read(Candidate(response(), body, "memory"), part) == data[start:end]
    assert all([len(piece) <= 256 * KIB async for piece in body.read(part)])


class Answer:
    """What the hot path keeps with a candidate, as the memory tier sees it."""

    def __init__(self) -> None:
        self.uses = 0
        self.said: list[str] = []

    def unlink(self) -> None:
        """More than one to choose from."""
        self.said.append("unlink")

    def clear(self) -> None:
        """Gone."""
        self.said.append("clear")


def answering(entry_id: int, key: str, size: int, variant: str = "") -> tuple[Candidate, Answer]:
    """An entry that has been answered with."""
    made, answer = candidate(entry_id, key, bytes(size), variant), Answer()
    made.prepared.plain = answer
    return made, answer


@pytest.mark.parametrize("how", ["drop", "drop_key", "replace_older", "put", "evict"])
def test_what_goes_is_not_answered_with_any_more(how: str) -> None:
    """However it leaves: who was led straight to its answer must not find it there."""
    tier = MemoryTier(LIMIT)
    old, answer = answering(1, KEYS[0], 2000)
    tier.put(old)
    new = candidate(2, KEYS[0], b"")
    if how == "drop":
        tier.drop(1)
    elif how == "drop_key":
        tier.drop_key(KEYS[0])
    elif how == "replace_older":
        tier.replace_older(new.stored)
    elif how == "put":
        tier.put(Candidate(old.stored, old.body, "memory"))
    else:
        while tier.find(KEYS[0]):
            tier.put(candidate(len(tier) + 2, KEYS[1], bytes(4000)))
    assert answer.said == ["clear"]
    assert old.prepared.plain is None


def test_a_second_variant_is_chosen_from() -> None:
    """Who was led straight to the first has to look again; what is prepared stays."""
    tier = MemoryTier(LIMIT)
    first, one = answering(1, KEYS[0], 10, "x")
    second, two = answering(2, KEYS[0], 10, "y")
    tier.put(first)
    assert one.said == []
    tier.put(second)
    assert (one.said, two.said) == (["unlink"], ["unlink"])
    assert first.prepared.plain is one


def test_what_was_used_and_not_noted_yet_is_passed_over() -> None:
    """As `touch` would have it, which comes up to a second later."""
    tier = MemoryTier(weigh(candidate(1, KEYS[0], bytes(2000))) * 7 // 2)
    made = [answering(n, f"http://h/{n}", 2000) for n in range(4)]
    for one, answer in made[:3]:
        tier.put(one)
        answer.uses = 1
    made[1][1].uses = 0
    tier.put(made[3][0])
    assert sorted(one.stored.entry_id for one in tier) == [0, 2, 3]
    assert tier.bytes == sum(map(weigh, tier))
    # Where all are in use, one has to go all the same.
    for n in range(4, 300):
        one, answer = answering(n, f"http://h/{n}", 2000)
        answer.uses = 1
        tier.put(one)
        assert len(tier) == 3
        assert tier.bytes == sum(map(weigh, tier)) <= tier._entries.maxsize
        assert tier.find(one.stored.key)


@pytest.mark.parametrize("count", [1, 5, 40, 50, 63])
def test_where_all_are_in_use_the_oldest_goes(count: int) -> None:
    """It was passed over, and so were all others."""
    made = [answering(n, f"http://h/{n:02}", 2000) for n in range(count)]
    tier = MemoryTier(weigh(made[0][0]) * count + 1000)
    for one, answer in made:
        tier.put(one)
        answer.uses = 1
    assert len(tier) == count
    tier.put(candidate(100, "http://h/99", bytes(2000)))
    assert [one.stored.entry_id for one, _ in made if not tier.find(one.stored.key)] == [0]
