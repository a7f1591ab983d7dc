"""Is a body that begins to arrive one that we hold under another URL; which digests must it have (RFC 9530).

Sharing is by content, so it must not become a way to read: whoever names a hash gets only what anybody
could have fetched from where he is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from cacheproxy.http.codings import content_codings
from cacheproxy.http.digests import (
    SHORTEST_NAMING_PATH,
    Digest,
    content_digests,
    digest_from_name,
    representation_digests,
)
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.http.syntax import parse_digits

MIN_BYTES_TO_COME = 1024 * 1024
"""Below this, ending a transfer and its connection costs more than it saves."""

_DIGESTS = frozenset({"content-digest", "repr-digest", "digest"})
_CREDENTIALS = frozenset({"authorization", "cookie"})


class AddressClass(StrEnum):
    """Whether the origin's address is on the internet or on a network of ours; of loopback kind counts as private."""

    PUBLIC = "public"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class BodyFacts:
    """What sharing looks at: of a body that arrives, or of one that was stored whole.

    `digests` are promised for a body that arrives, verified for one that is held.
    """

    digests: tuple[Digest, ...]
    has_credentials: bool
    address_class: AddressClass
    length: int | None
    content_type: str
    codings: tuple[str, ...] | None


def to_text(facts: BodyFacts) -> str:
    """The facts of a body that was stored whole, but for its digests, in a form to keep."""
    return json.dumps(
        [facts.has_credentials, facts.address_class, facts.length, facts.content_type, facts.codings]
    )


def from_text(text: str, digests: tuple[Digest, ...]) -> BodyFacts:
    """The facts again, with the digests. Raises ValueError where it is no such text."""
    has_credentials, address_class, length, content_type, codings = json.loads(text)
    if not isinstance(has_credentials, bool):
        raise ValueError("not what to_text wrote")
    names = None if codings is None else tuple(map(str, codings))
    whose = AddressClass(address_class)
    return BodyFacts(digests, has_credentials, whose, int(length), str(content_type), names)


def body_facts(request: Fields, response: ResponseHead, path: str, address_class: AddressClass) -> BodyFacts:
    """The facts of the body that a response to a GET brings, as its head and its name promise them."""
    length = response.fields.only("content-length")
    return BodyFacts(
        expected_digests(response, path),
        not _CREDENTIALS.isdisjoint(request.names()),
        address_class,
        None if length is None else parse_digits(length),
        "".join((response.fields.get("content-type") or "").split()).lower(),
        content_codings(response.fields),
    )


def expected_digests(response: ResponseHead, path: str) -> tuple[Digest, ...]:
    """What the content of this response to a GET must hash to.

    Content-Digest holds for a part as well (RFC 9530 §2); the digests of the representation and of the
    name hold only where the content is the whole of it, the name's only where it is not coded.
    """
    if len(path) < SHORTEST_NAMING_PATH and _DIGESTS.isdisjoint(response.fields.names()):
        # The usual case; below it would come to the same.
        return ()
    found = list(content_digests(response.fields))
    if response.status == 200:
        found += representation_digests(response.fields)
        named = digest_from_name(path) if content_codings(response.fields) == () else None
        if named is not None:
            found.append(named)
    return tuple(dict.fromkeys(found))


def may_share(arriving: BodyFacts, held: BodyFacts, bytes_to_come: int) -> bool:
    """Whether the transfer may be ended and the held body served, once its hash has been verified.

    Neither fetched with Authorization or Cookie, both from the same class of address, of equal length,
    type and coding, one common digest and none that differs.
    """
    if bytes_to_come < MIN_BYTES_TO_COME or arriving.has_credentials or held.has_credentials:
        return False
    if arriving.length is None or arriving.codings is None:
        return False
    if (arriving.address_class, arriving.length, arriving.content_type, arriving.codings) != (
        held.address_class,
        held.length,
        held.content_type,
        held.codings,
    ):
        return False
    known = {digest.algorithm: digest for digest in held.digests}
    common = [digest for digest in arriving.digests if digest.algorithm in known]
    return bool(common) and all(known[digest.algorithm] == digest for digest in common)
