"""Digests of content: the fields, the names that hold one, and checking a body against them (RFC 9530)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cacheproxy.http.message import Fields
from cacheproxy.http.syntax import split_list

# RFC 9530 §5: the others are insecure, or no cryptographic hashes at all: whoever can make two bodies of
# one digest could put one in the place of the other.
_LENGTHS = {"sha-256": 32, "sha-512": 64}
_HASHES = {"sha-256": "sha256", "sha-512": "sha512"}


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A digest: `sha-256` or `sha-512`, and its bytes."""

    algorithm: str
    value: bytes

    @property
    def hex(self) -> str:
        """The value in lower-case hexadecimal."""
        return self.value.hex()

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


# RFC 8941 §3.2 (dictionary member), §3.3.5 (byte sequence).
_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)(?:=(.*))?\Z", re.DOTALL)
_BYTE_SEQUENCE = re.compile(r":([A-Za-z0-9+/]*={0,2}):[ ]*(?:;.*)?\Z")


def parse_digests(value: str) -> tuple[Digest, ...] | None:
    """The SHA-2 digests of a Content-Digest or Repr-Digest value; None where it is malformed.

    Other algorithms are passed over. RFC 8941 §4.2.2: of a repeated key the last counts.
    """
    found: dict[str, Digest] = {}
    for member in split_list(value):
        match = _MEMBER.match(member)
        if match is None:
            return None
        algorithm, item = match.groups()
        if algorithm not in _LENGTHS:
            continue
        sequence = _BYTE_SEQUENCE.match(item or "")
        digest = None if sequence is None else _decoded(algorithm, sequence.group(1))
        if digest is None:
            return None
        found[algorithm] = digest
    return tuple(found.values())


def parse_instance_digests(value: str) -> tuple[Digest, ...]:
    """The SHA-2 digests of an obsolete Digest field (RFC 3230 §4.3.2, RFC 5843); what is broken is passed over."""
    found: dict[str, Digest] = {}
    for member in split_list(value):
        name, _, text = member.partition("=")
        digest = _decoded(name.lower(), text)
        if digest is not None:
            found[digest.algorithm] = digest
    return tuple(found.values())


def _decoded(algorithm: str, text: str) -> Digest | None:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return Digest(algorithm, value) if len(value) == _LENGTHS.get(algorithm) else None


def content_digests(fields: Fields) -> tuple[Digest, ...]:
    """What the content of the message itself must hash to, a part as well as a whole (RFC 9530 §2)."""
    value = fields.get("content-digest")
    return (parse_digests(value) or ()) if value is not None else ()


def representation_digests(fields: Fields) -> tuple[Digest, ...]:
    """What the whole representation, as it is coded, must hash to (RFC 9530 §3; RFC 3230)."""
    found: list[Digest] = []
    value = fields.get("repr-digest")
    if value is not None:
        found += parse_digests(value) or ()
    legacy = fields.get("digest")
    if legacy is not None:
        found += parse_instance_digests(legacy)
    return tuple(dict.fromkeys(found))


_HEX_256, _HEX_512 = r"([0-9a-f]{64})", r"([0-9a-f]{128})"
_NAMES = tuple(
    (algorithm, re.compile(pattern))
    for algorithm, pattern in (
        ("sha-256", rf"/by-hash/SHA256/{_HEX_256}\Z"),
        ("sha-512", rf"/by-hash/SHA512/{_HEX_512}\Z"),
        # OCI blobs and other content-addressed stores that say which hash it is.
        ("sha-256", rf"/sha256[:/-]{_HEX_256}\Z"),
        ("sha-512", rf"/sha512[:/-]{_HEX_512}\Z"),
        # createrepo: metadata files begin with the SHA-256 that repomd.xml gives for them.
        ("sha-256", rf"/repodata/{_HEX_256}-[\w.-]+\Z"),
    )
)


# In characters: none that `digest_from_name` knows is shorter.
SHORTEST_NAMING_PATH = 64


def digest_from_name(path: str) -> Digest | None:
    """The digest that a path (without query) promises for the file as published, uncoded; None if it names none.

    Only names that tell the algorithm, or whose layout does: PyPI's are BLAKE2b, and a bare hash may be
    that of anything.
    """
    if len(path) > 1024:
        return None
    for algorithm, pattern in _NAMES:
        match = pattern.search(path)
        if match is not None:
            return Digest(algorithm, bytes.fromhex(match.group(1)))
    return None


class Verifier:
    """Checks a body while it passes. Hashes only the algorithms that the expected digests use."""

    def __init__(self, expected: Iterable[Digest]) -> None:
        self.expected = tuple(dict.fromkeys(expected))
        self._hashes = {
            digest.algorithm: hashlib.new(_HASHES[digest.algorithm], usedforsecurity=True)
            for digest in self.expected
        }

    def update(self, data: bytes | memoryview) -> None:
        """The next bytes of the body."""
        for running in self._hashes.values():
            running.update(data)

    def computed(self) -> tuple[Digest, ...]:
        """The digests of what has passed so far, one per algorithm."""
        return tuple(Digest(algorithm, running.digest()) for algorithm, running in self._hashes.items())

    def mismatch(self) -> Digest | None:
        """The first expected digest that the bytes so far do not have; None where all agree."""
        computed = frozenset(self.computed())
        return next((digest for digest in self.expected if digest not in computed), None)
