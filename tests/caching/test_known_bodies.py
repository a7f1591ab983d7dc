"""When a body that we hold may be served under another URL."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.known_bodies import (
    MIN_BYTES_TO_COME,
    AddressClass,
    BodyFacts,
    body_facts,
    expected_digests,
    from_text,
    may_share,
    to_text,
)
from cacheproxy.http.digests import Digest
from tests.caching.build import fields, response

ONE = Digest("sha-256", hashlib.sha256(b"x").digest())
OTHER = Digest("sha-256", hashlib.sha256(b"y").digest())
LONG = Digest("sha-512", hashlib.sha512(b"x").digest())
FIELD = f"sha-256=:{base64.b64encode(ONE.value).decode()}:"
NAMED = f"/by-hash/SHA256/{OTHER.hex}"
PUBLIC = AddressClass.PUBLIC

HELD = BodyFacts((ONE, LONG), False, PUBLIC, 9 * MIN_BYTES_TO_COME, "a/b", ())
ARRIVING = replace(HELD, digests=(ONE,))


@pytest.mark.parametrize(
    ("source", "arriving", "held", "to_come", "expected"),
    [
        ("issue 3.8", ARRIVING, HELD, MIN_BYTES_TO_COME, True),
        ("issue 3.8 too little to come", ARRIVING, HELD, MIN_BYTES_TO_COME - 1, False),
        ("issue 3.8 asked with credentials", replace(ARRIVING, has_credentials=True), HELD, 2**30, False),
        ("issue 3.8 held with credentials", ARRIVING, replace(HELD, has_credentials=True), 2**30, False),
        ("issue 3.8 the intranet's", ARRIVING, replace(HELD, address_class=AddressClass.PRIVATE), 2**30, False),
        ("issue 3.8 for the intranet", replace(ARRIVING, address_class=AddressClass.PRIVATE), HELD, 2**30, False),
        ("issue 3.8 both intranet", *(replace(one, address_class=AddressClass.PRIVATE) for one in (ARRIVING, HELD)), 2**30, True),
        ("issue 3.8 another length", replace(ARRIVING, length=5), HELD, 2**30, False),
        ("issue 3.8 no length", *(replace(one, length=None) for one in (ARRIVING, HELD)), 2**30, False),
        ("issue 3.8 another type", replace(ARRIVING, content_type="a/c"), HELD, 2**30, False),
        ("issue 3.8 another coding", replace(ARRIVING, codings=("gzip",)), HELD, 2**30, False),
        ("issue 3.8 unreadable coding", *(replace(one, codings=None) for one in (ARRIVING, HELD)), 2**30, False),
        ("issue 3.8 another hash", replace(ARRIVING, digests=(OTHER,)), HELD, 2**30, False),
        ("issue 3.8 one of two differs", replace(ARRIVING, digests=(LONG, OTHER)), HELD, 2**30, False),
        ("issue 3.8 hashes of other kinds", replace(ARRIVING, digests=(LONG,)), replace(HELD, digests=(ONE,)), 2**30, False),
        ("issue 3.8 no hash", *(replace(one, digests=()) for one in (ARRIVING, HELD)), 2**30, False),
    ],
)  # fmt: skip
def test_may_share(source: str, arriving: BodyFacts, held: BodyFacts, to_come: int, expected: bool) -> None:
    assert may_share(arriving, held, to_come) == expected


@pytest.mark.parametrize(
    ("rfc", "status", "text", "path", "digests"),
    [
        ("9530 2", 200, f"Content-Digest: {FIELD}", "/", (ONE,)),
        ("9530 2 a part", 206, f"Content-Digest: {FIELD}", "/", (ONE,)),
        ("9530 3", 200, f"Repr-Digest: {FIELD}", "/", (ONE,)),
        ("9530 3 not of a part", 206, f"Repr-Digest: {FIELD}", "/", ()),
        ("9530 3 of what is coded", 200, f"Repr-Digest: {FIELD} | Content-Encoding: gzip", NAMED, (ONE,)),
        ("issue 3.8 by name", 200, "", NAMED, (OTHER,)),
        ("issue 3.8 by name, a part", 206, "", NAMED, ()),
        ("issue 3.8 by name, not there", 404, "", NAMED, ()),
        ("issue 3.8 field and name disagree", 200, f"Repr-Digest: {FIELD}", NAMED, (ONE, OTHER)),
        ("9530 2 twice the same", 200, f"Content-Digest: {FIELD} | Repr-Digest: {FIELD}", "/", (ONE,)),
    ],
)
def test_expected_digests(rfc: str, status: int, text: str, path: str, digests: tuple[Digest, ...]) -> None:
    assert expected_digests(response(text, status), path) == digests


@pytest.mark.parametrize(
    ("asked", "text", "expected"),
    [
        ("", "", BodyFacts((), False, PUBLIC, None, "", ())),
        ("Cookie: a=1", "Content-Length: 5", BodyFacts((), True, PUBLIC, 5, "", ())),
        ("Authorization: x", "Content-Length: x", BodyFacts((), True, PUBLIC, None, "", ())),
        ("Accept: */*", f"Content-Digest: {FIELD} | Content-Type: Text/HTML; Charset=x | Content-Encoding: x-gzip",
         BodyFacts((ONE,), False, PUBLIC, None, "text/html;charset=x", ("gzip",))),
    ],
)  # fmt: skip
def test_facts(asked: str, text: str, expected: BodyFacts) -> None:
    assert body_facts(fields(asked), response(text), "/", PUBLIC) == expected


FACTS = st.builds(
    BodyFacts,
    st.sets(st.sampled_from([ONE, OTHER, LONG])).map(lambda found: tuple(sorted(found))),
    st.booleans(),
    st.sampled_from(AddressClass),
    st.sampled_from([None, 5, 2**30]),
    st.sampled_from(["", "a/b"]),
    st.sampled_from([None, (), ("gzip",)]),
)


@given(FACTS, FACTS)
def test_sharing_never_crosses_a_border(arriving: BodyFacts, held: BodyFacts) -> None:
    if may_share(arriving, held, 2**30):
        assert not arriving.has_credentials
        assert not held.has_credentials
        assert (arriving.address_class, arriving.length) == (held.address_class, held.length)
        assert set(arriving.digests) & set(held.digests)


@pytest.mark.parametrize(
    "facts",
    [
        HELD,
        replace(HELD, codings=None),
        replace(HELD, codings=("gzip", "br")),
        replace(HELD, has_credentials=True),
    ],
)
def test_facts_can_be_kept(facts: BodyFacts) -> None:
    assert from_text(to_text(facts), facts.digests) == facts


@given(st.text() | st.sampled_from(["[]", "[1, 2, 3, 4, 5]", '[true, "mars", 1, "", []]', "{}", "null"]))
def test_what_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        from_text(text, (ONE,))
