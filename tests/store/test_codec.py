"""Heads as bytes: what goes in comes out, everything else is a StoreError."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.errors import StoreError
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.store.codec import decode, encode, variant_key
from tests.store.conftest import OPTIONS, URL, response

LATIN = st.text(st.characters(max_codepoint=255), max_size=30)
# No field's name has a colon (RFC 9110 section 5.1).
NAMES = st.text(st.characters(max_codepoint=255, exclude_characters=":"), max_size=30)
LINES = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(["Cache-Control", "DATE", "Age", "Expires", "ETag", "Vary", "Last-Modified"]), NAMES
        ),
        st.one_of(
            st.sampled_from(["max-age=5", "no-cache, PRIVATE", "Sun, 06 Nov 1994 08:49:37 GMT", "0", '"x"']),
            LATIN,
        ),
    ),
    max_size=8,
)
TIMES = st.floats(0, 4e9, allow_nan=False)
STORED = st.builds(
    lambda key, nominated, status, phrase, lines, sent, received, stale, length: StoredResponse.build(
        key,
        tuple(name for name, _ in nominated),
        tuple(value for _, value in nominated),
        ResponseHead(status, phrase, Fields(lines)),
        Timing(sent, received),
        OPTIONS,
        entry_id=7,
        body_id=8,
        length=length,
        forced_stale=stale,
    ),
    st.text(st.characters(max_codepoint=255), min_size=1),
    st.lists(st.tuples(LATIN, st.one_of(st.none(), LATIN)), max_size=3),
    st.integers(100, 999),
    LATIN,
    LINES,
    TIMES,
    TIMES,
    st.booleans(),
    st.integers(0, 1 << 50),
)
QUIET = settings(max_examples=150, deadline=None, database=None, derandomize=True)


def again(data: bytes, like: StoredResponse) -> StoredResponse:
    """Decode with the columns that the table holds beside the head."""
    return decode(
        data,
        OPTIONS,
        key=like.key,
        entry_id=like.entry_id,
        body_id=like.body_id,
        length=like.length or 0,
        parts="",
        forced_stale=like.forced_stale,
    )


@given(STORED)
@QUIET
def test_round_trip(stored: StoredResponse) -> None:
    """Field order, case, duplicates and obs-text survive, and every derived value is computed alike."""
    assert again(encode(stored), stored) == stored


@given(STORED)
@QUIET
def test_what_the_version_before_wrote_is_read(stored: StoredResponse) -> None:
    """It had the fields as pairs."""
    document = json.loads(encode(stored))
    document[0], document[3] = 2, stored.fields.lines
    assert again(json.dumps(document).encode(), stored) == stored


@given(STORED, st.data())
@QUIET
def test_damage_is_a_store_error(stored: StoredResponse, data: st.DataObject) -> None:
    """Cut, changed or lengthened bytes raise StoreError, or nothing where they are still a head."""
    raw = bytearray(encode(stored))
    match data.draw(st.sampled_from(["cut", "flip", "insert"])):
        case "cut":
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        case "flip":
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
        case _:
            at = data.draw(st.integers(0, len(raw)))
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    try:
        again(bytes(raw), stored)
    except StoreError:
        pass


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from([2, 3]), st.lists(JSON, min_size=8, max_size=8))
@QUIET
def test_foreign_values_are_a_store_error(version: int, values: list[object]) -> None:
    """A head of a version that we read whose values have other types."""
    try:
        again(json.dumps([version, *values]).encode(), response())
    except StoreError:
        pass


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda head: [head[0] + 1, *head[1:]], id="a later version"),
        pytest.param(lambda head: [0, *head[1:]], id="an earlier version"),
        pytest.param(lambda head: [None, *head[1:]], id="no version"),
        pytest.param(lambda head: head[:-1], id="a value missing"),
        pytest.param(lambda head: [*head, 0], id="a value too many"),
        pytest.param(lambda _: {}, id="not a list"),
        pytest.param(lambda head: [head[0], "x", *head[2:]], id="status is no number"),
        pytest.param(lambda head: [head[0], float("inf"), *head[2:]], id="status is infinite"),
        pytest.param(lambda head: [*head[:3], "a", *head[4:]], id="a field without value"),
        pytest.param(lambda head: [*head[:3], ["a: b"], *head[4:]], id="fields that are no text"),
        pytest.param(lambda head: [2, *head[1:3], [["a"]], *head[4:]], id="the same in the version before"),
        pytest.param(lambda head: [*head[:4], 5, *head[5:]], id="nominated is no list"),
        pytest.param(lambda head: [*head[:6], "never", head[7]], id="no time"),
    ],
)
def test_versions_and_shapes(change: object) -> None:
    """What this version did not write cannot be read."""
    head = json.loads(encode(response()))
    with pytest.raises(StoreError):
        again(json.dumps(change(head)).encode(), response())  # type: ignore[operator]


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"null", b"[" * 100_000, b"1"])
def test_not_a_head(raw: bytes) -> None:
    """Bytes that are no JSON, or none of ours."""
    with pytest.raises(StoreError):
        again(raw, response())


def test_variant_keys() -> None:
    """Equal for the same nominated fields and values, different for any other."""
    forms = [
        ((), ()),
        (("a",), (None,)),
        (("a",), ("",)),
        (("a",), ("null",)),
        (("a", "b"), ("x", None)),
        (("a", "b"), (None, "x")),
        (("a,b",), ("x",)),
        (("b",), ("x",)),
    ]
    keys = [variant_key(response(URL, nominated=names, variant=values)) for names, values in forms]
    assert len(set(keys)) == len(forms)
    assert keys == [
        variant_key(response("http://other/", nominated=n, variant=v, etag='"2"')) for n, v in forms
    ]
