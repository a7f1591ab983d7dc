"""Digests of content: the fields, the names, the check."""

from __future__ import annotations

import base64
import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.http.digests import (
    SHORTEST_NAMING_PATH,
    Digest,
    Verifier,
    content_digests,
    digest_from_name,
    parse_digests,
    parse_instance_digests,
    representation_digests,
)
from cacheproxy.http.message import Fields

BODY = b'{"hello": "world"}\n'
ONE = Digest("sha-256", hashlib.sha256(BODY).digest())
TWO = Digest("sha-512", hashlib.sha512(BODY).digest())
B1, B2 = (base64.b64encode(digest.value).decode() for digest in (ONE, TWO))
EMPTY_256 = Digest("sha-256", hashlib.sha256(b"").digest())


def test_the_examples_of_the_rfc() -> None:
    """RFC 9530 appendix B.1, the sha-256 of its body."""
    assert B1 == "RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg="


@pytest.mark.parametrize(
    ("rfc", "value", "digests"),
    [
        ("9530 2", f"sha-256=:{B1}:", (ONE,)),
        ("9530 2 two", f"sha-256=:{B1}:, sha-512=:{B2}:", (ONE, TWO)),
        ("9530 5 others passed over", f"md5=:eA==:,sha-512=:{B2}:,unixsum=:x:", (TWO,)),
        ("9530 5 nothing of use", "md5=:eA==:", ()),
        ("8941 3.1.2 parameters", f"sha-256=:{B1}:;a=1;b", (ONE,)),
        ("8941 4.2.2 the last counts", f"sha-256=:{base64.b64encode(EMPTY_256.value).decode()}:, sha-256=:{B1}:", (ONE,)),
        ("8941 3.2 quoted comma in another", f'x="a,b", sha-256=:{B1}:', (ONE,)),
        ("8941 3.2 flag", f"x, sha-256=:{B1}:", (ONE,)),
        ("8941 3.2 keys are lower case", f"SHA-256=:{B1}:", None),
        ("8941 3.3.5 no colons", f"sha-256={B1}", None),
        ("8941 3.3.5 one colon", f"sha-256=:{B1}", None),
        ("8941 3.3.5 not base64", "sha-256=:###:", None),
        ("8941 3.3.5 padding", f"sha-256=:{B1[:-1]}:", None),
        ("9530 5 too short", "sha-256=:eA==:", None),
        ("9530 5 the other's length", f"sha-256=:{B2}:", None),
        ("9530 2 flag for a digest", "sha-256", None),
        ("9530 2 behind it", f"sha-256=:{B1}:x", None),
        ("9530 2 empty", "", ()),
    ],
)  # fmt: skip
def test_fields(rfc: str, value: str, digests: tuple[Digest, ...] | None) -> None:
    assert parse_digests(value) == digests


@pytest.mark.parametrize(
    ("rfc", "value", "digests"),
    [
        ("5843 2.2", f"SHA-256={B1}", (ONE,)),
        ("3230 4.1.1 any case", f"sha-512={B2},sha-256={B1}", (TWO, ONE)),
        ("3230 4.3.2 others", f"MD5=eA==, id-sha-256=x, SHA-256={B1}", (ONE,)),
        ("3230 4.3.2 broken", "SHA-256=xyz", ()),
        ("3230 4.3.2 structured by mistake", f"sha-256=:{B1}:", ()),
    ],
)
def test_the_obsolete_field(rfc: str, value: str, digests: tuple[Digest, ...]) -> None:
    assert parse_instance_digests(value) == digests


def test_what_they_are_of() -> None:
    """RFC 9530 §2, §3."""
    fields = Fields(
        [("Content-Digest", f"sha-256=:{B1}:"), ("repr-digest", f"sha-512=:{B2}:"), ("Digest", f"SHA-512={B2}")]
    )
    assert content_digests(fields) == (ONE,)
    assert representation_digests(fields) == (TWO,)
    assert content_digests(Fields([("Content-Digest", "broken")])) == ()
    assert representation_digests(Fields()) == ()


H = ONE.hex
H512 = TWO.hex


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        (f"/debian/dists/sid/main/binary-amd64/by-hash/SHA256/{H}", ONE),
        (f"/debian/dists/sid/main/binary-amd64/by-hash/SHA512/{H512}", TWO),
        (f"/v2/library/alpine/blobs/sha256:{H}", ONE),
        (f"/store/sha256/{H}", ONE),
        (f"/store/sha512/{H512}", TWO),
        (f"/models/blobs/sha256-{H}", ONE),
        (f"/fedora/repodata/{H}-primary.xml.gz", ONE),
        (f"/debian/dists/sid/main/by-hash/MD5Sum/{H[:32]}", None),
        (f"/debian/dists/sid/main/by-hash/SHA1/{H[:40]}", None),
        (f"/debian/dists/sid/main/by-hash/SHA256/{H[:63]}", None),
        (f"/debian/dists/sid/main/by-hash/SHA256/{H}/x", None),
        (f"/debian/dists/sid/main/by-hash/SHA256/{H.upper()}", None),
        (f"/packages/{H[:2]}/{H[2:4]}/{H[4:]}/requests-2.32.3.tar.gz", None),
        (f"/{H}.js", None),
        (f"/app.{H}.js", None),
        (f"/xsha256:{H}", None),
        ("/", None),
        ("/" + "a" * 2000 + f"/sha256:{H}", None),
    ],
)
def test_names(path: str, digest: Digest | None) -> None:
    assert digest_from_name(path) == digest
    assert digest is None or len(path) >= SHORTEST_NAMING_PATH


@given(
    st.binary(max_size=200),
    st.lists(st.integers(0, 200), max_size=5),
    st.sets(st.sampled_from([0, 1]), min_size=1),
)
def test_a_body_is_checked_however_it_is_cut(body: bytes, cuts: list[int], which: set[int]) -> None:
    expected = [
        (Digest("sha-256", hashlib.sha256(body).digest()), Digest("sha-512", hashlib.sha512(body).digest()))[
            one
        ]
        for one in sorted(which)
    ]
    verifier = Verifier(expected)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        verifier.update(memoryview(body)[start:end])
    assert verifier.mismatch() is None
    assert verifier.computed() == tuple(expected)
    verifier.update(b"x")
    assert verifier.mismatch() == expected[0]


def test_digests_that_contradict_each_other_never_agree() -> None:
    verifier = Verifier([ONE, EMPTY_256])
    verifier.update(BODY)
    assert verifier.mismatch() == EMPTY_256
    assert Verifier([]).mismatch() is None
    assert str(ONE) == f"sha-256:{ONE.hex}"


@given(st.text(max_size=60) | st.text('sha-256=:;,"AQ=/', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    parse_digests(text)
    parse_instance_digests(text)
    digest_from_name(text)
