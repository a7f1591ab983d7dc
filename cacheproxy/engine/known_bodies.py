"""Bodies that we hold under another URL: the transfer is ended, and ours is served in its place.

Only what a digest names, and only after the hash of our copy was computed anew.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace

from cacheproxy.caching.combining import StorePart
from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.known_bodies import (
    MIN_BYTES_TO_COME,
    AddressClass,
    BodyFacts,
    body_facts,
    expected_digests,
    may_share,
)
from cacheproxy.caching.storing import Store
from cacheproxy.engine.outcome import Filling, Plan
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.streams import close_stream, next_piece
from cacheproxy.errors import StoreError, UpstreamError
from cacheproxy.http.digests import Digest, Verifier
from cacheproxy.http.message import ResponseHead
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import Candidate, UpstreamResponse
from cacheproxy.reasons import Reason

log = logging.getLogger("cacheproxy")


class HeldResponse:
    """An origin's head with our own copy of its body. Implements `ports.UpstreamResponse`."""

    is_close_delimited = False
    is_private_connection = False

    def __init__(self, response: UpstreamResponse, candidate: Candidate) -> None:
        self.head: ResponseHead = response.head
        self.timing: Timing = response.timing
        self.length = response.length
        self.is_public_peer = response.is_public_peer
        self._host = candidate.stored.key.partition("://")[2].partition("/")[0]
        self._stream: AsyncIterator[bytes] = candidate.body.read(None)
        self._first: bytes | None = None

    async def open(self) -> None:
        """Begin to read. Raises StoreError."""
        self._first = await next_piece(self._stream)

    async def give_up(self) -> None:
        """It is not what it should be."""
        await close_stream(self._stream)

    async def read(self) -> bytes:
        """The next piece of our copy."""
        if self._first is not None:
            piece, self._first = self._first, None
            return piece
        try:
            piece = await next_piece(self._stream)
        except StoreError as error:
            raise UpstreamError(
                Reason.CONNECTION_TERMINATED, self._host, str(error), before_head=False
            ) from error
        if not piece:
            await close_stream(self._stream)
        return piece

    def whole(self) -> None:
        """It is read piece by piece."""
        return

    def close(self) -> None:
        """The stream ends with its generator."""


class _Content:
    """A body that is here but not stored."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.available = len(content)

    def whole(self) -> bytes:
        """All of it."""
        return self._content

    def at_once(self) -> _Content:
        """As it is."""
        return self

    async def read(self, part: Slice | None) -> AsyncIterator[bytes]:
        """All of it, or `part`."""
        yield self._content if part is None else self._content[part.start : part.end]


def is_wrong(key: str, verifier: Verifier) -> bool:
    """Whether a body does not have a digest that it must have; then the log says so."""
    mismatch = verifier.mismatch()
    if mismatch is not None:
        name = key.partition("?")[0]
        log.warning("%s: the body does not have its digest (%s); it is not stored", name, mismatch)
    return mismatch is not None


class KnownBodies:
    """Digests are verified when a body is stored, and once more before it is used; the store remembers them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def facts(self, plan: Plan, response: UpstreamResponse) -> BodyFacts:
        """What the head promises of the body that comes."""
        target = plan.request.target
        path = "" if target is None else target.path_and_query.partition("?")[0]
        peer = AddressClass.PUBLIC if response.is_public_peer else AddressClass.PRIVATE
        return body_facts(plan.request.fields, response.head, path, peer)

    def put(self, plan: Plan, response: UpstreamResponse, stored: StoredResponse, content: bytes) -> Filling:
        """Store a body that came with its head, if it has the digests that it must have: nobody needs to wait."""
        target = plan.request.target
        path = "" if target is None else target.path_and_query.partition("?")[0]
        digests = expected_digests(response.head, path)
        if digests:
            verifier = Verifier(digests)
            verifier.update(content)
            if is_wrong(plan.key, verifier):
                candidate = Candidate(stored, _Content(content), "flight")
                return Filling(candidate, response.head, None, len(content), Reason.DIGEST_MISMATCH, content)
        candidate = self._parts.store.put(stored, content)
        return Filling(candidate, response.head, None, len(content), Reason.STORED, content)

    async def add(self, facts: BodyFacts, verifier: Verifier, candidate: Candidate) -> None:
        """A body was stored whole, and has the digests that were promised."""
        stored = candidate.stored
        if stored.length is not None and stored.length >= MIN_BYTES_TO_COME and not facts.has_credentials:
            facts = replace(facts, digests=verifier.computed(), length=stored.length)
            await self._parts.store.note_body(stored, facts)

    async def has_its_digests(self, candidate: Candidate) -> bool:
        """Whether a body that came in parts has what its head and name promise; else it is dropped."""
        stored = candidate.stored
        path = "/" + stored.key.partition("://")[2].partition("/")[2].partition("?")[0]
        verifier = Verifier(expected_digests(stored.head, path))
        if verifier.expected:
            await _read_through(candidate, verifier)
            if is_wrong(stored.key, verifier):
                self._parts.store.discard(candidate)
                return False
        return True

    async def instead(
        self, plan: Plan, response: UpstreamResponse, verdict: Store | StorePart
    ) -> UpstreamResponse:
        """The response, or the same with our copy of its body; then the transfer has been ended."""
        if isinstance(verdict, StorePart) or response.length is None or response.is_private_connection:
            return response
        if response.length < MIN_BYTES_TO_COME:
            return response
        facts = self.facts(plan, response)
        for digest in facts.digests:
            ours = await self._ours(digest, facts, response, plan.key)
            if ours is not None:
                log.info("%s: served from the copy under another URL", plan.key.partition("?")[0])
                response.close()
                return ours
        return response

    async def _ours(
        self, digest: Digest, facts: BodyFacts, response: UpstreamResponse, key: str
    ) -> HeldResponse | None:
        store = self._parts.store
        try:
            holders = await store.bodies_with(digest)
        except StoreError:
            log.debug("known bodies cannot be looked up", exc_info=True)
            return None
        for candidate, held in holders:
            stored = candidate.stored
            if stored.key == key or stored.held is not None or not may_share(facts, held, response.length or 0):
                continue
            # Open from here on: its rows stay until it is sent, whatever becomes of the entry.
            ours = HeldResponse(response, candidate)
            verifier = Verifier(facts.digests)
            try:
                await ours.open()
                await _read_through(candidate, verifier)
            except StoreError as error:
                log.debug("a known body cannot be read: %s", error)
                store.discard(candidate)
            else:
                if verifier.mismatch() is None:
                    return ours
            await ours.give_up()
        return None


async def _read_through(candidate: Candidate, verifier: Verifier) -> None:
    stream = candidate.body.read(None)
    try:
        async for piece in stream:
            verifier.update(piece)
    finally:
        await close_stream(stream)
