"""The direct path through another worker: a plain GET of what that one owns, without a task on this side either.

What cannot be answered this way is left to the ordinary path, which asks the owner once more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cacheproxy.caching.facts import FieldFacts
from cacheproxy.engine.hop import HOP_FIELD, SharedStore, Told, question
from cacheproxy.engine.owners import Owners
from cacheproxy.engine.parts import Parts
from cacheproxy.errors import CacheproxyError
from cacheproxy.http.forwarding import end_to_end
from cacheproxy.http.message import RequestHead, ResponseHead
from cacheproxy.policy.rules import Timeouts
from cacheproxy.ports import Answer, Closable, UpstreamRequest
from cacheproxy.ports.direct import DirectUpstream, FollowedResponse, Reply

log = logging.getLogger("cacheproxy")

_VERSION = (1, 1)


class DirectHops:
    """One for all connections."""

    def __init__(self, parts: Parts, owners: Owners, siblings: DirectUpstream, store: SharedStore) -> None:
        self._parts = parts
        self._owners = owners
        self._siblings = siblings
        self.store = store

    def begin(self, head: RequestHead, key: str, facts: FieldFacts, reply: Reply) -> DirectHop | None:
        """Ask the owner of `key`; None where no connection to it is idle."""
        assert head.target is not None
        request = self._owners.request(key, head, self._parts)
        field = f"{HOP_FIELD}: {question(reply.client, _VERSION)}\r\n"
        # The client's own lines, byte for byte: the owner most likely knows them.
        wire = f"GET {head.request_target} HTTP/1.1\r\n{field}".encode("latin-1") + facts.raw
        hop = DirectHop(self, key, reply, f"HIER_DIRECT/{head.target.origin.host}")
        return hop if hop.ask(self._siblings, request, wire) else None

    def keep(self, key: str, lent: tuple[int, bytes], content: bytes, drops: int) -> None:
        """Keep a copy of what the owner lends, unless copies were called back since `drops`."""
        self.store.keep_copy(key, *lent, content, self._parts.caching, drops)


class DirectHop:
    """One request. Its `reply` is told exactly one end, unless `close` comes first."""

    __slots__ = (
        "_drops",
        "_head",
        "_hierarchy",
        "_hops",
        "_is_last",
        "_key",
        "_lent",
        "_pending",
        "_pieces",
        "_reply",
        "_response",
    )

    def __init__(self, hops: DirectHops, key: str, reply: Reply, hierarchy: str) -> None:
        self._hops = hops
        self._key = key
        self._reply = reply
        self._hierarchy = hierarchy
        self._drops = hops.store.drops
        self._pending: Closable | None = None
        self._response: FollowedResponse | None = None
        # An answer that may be kept: its head, what is lent with it, and as much of it as is here.
        self._head: ResponseHead
        self._is_last = False
        self._lent: tuple[int, bytes] | None = None
        self._pieces: list[bytes] = []

    def ask(self, siblings: DirectUpstream, request: UpstreamRequest, wire: bytes) -> bool:
        """Send the request; False, and nothing done, where no connection is idle."""
        self._pending = siblings.begin(
            request.origin, Timeouts(request.first_byte_s, request.idle_s), wire, self, None
        )
        return self._pending is not None

    # the owner

    def interim(self, head: ResponseHead) -> None:
        """A 1xx head goes on to the client."""
        self._reply.interim(head)

    def responded(self, response: FollowedResponse) -> None:
        """The owner's answer begins."""
        self._pending = None
        self._response = response
        self._carefully(lambda: self._pass_on(response))

    def _carefully(self, act: Callable[[], None]) -> None:
        """A mistake of ours leaves nobody waiting."""
        try:
            act()
        except Exception:
            log.exception("another worker's answer to %s", self._key.partition("?")[0])
            if self._response is not None:
                self._response.close()
            self.failed(CacheproxyError("internal"))

    def _pass_on(self, response: FollowedResponse) -> None:
        told = Told(response.head)
        told.fill(self._reply.record())
        self._is_last = told.must_close
        fields = end_to_end(response.head.fields).without((HOP_FIELD,))
        self._head = head = ResponseHead(response.head.status, response.head.reason_phrase, fields)
        length = response.length
        if length is not None:
            self._lent = told.lent
        content = response.whole()
        if content is not None:
            self._response = None
            self._answer(content, length)
            return
        if self._lent is None:
            self._reply.open(head, length)
        response.follow(self)

    def _answer(self, content: bytes, length: int | None) -> None:
        if self._lent is not None:
            self._hops.keep(self._key, self._lent, content, self._drops)
        self._reply.answer(Answer(self._head, content=content, length=length, must_close=self._is_last))

    def body(self, piece: bytes) -> None:
        """A piece."""
        if self._lent is not None:
            # Not more than an object in memory may have.
            self._pieces.append(piece)
        else:
            self._carefully(lambda: self._give(piece))

    def _give(self, piece: bytes) -> None:
        if not self._reply.piece(piece) and self._response is not None:
            self._response.hold()

    def ended(self) -> None:
        """The body is whole."""
        self._response = None
        if self._lent is not None:
            content = b"".join(self._pieces)
            self._carefully(lambda: self._answer(content, len(content)))
        else:
            self._carefully(self._reply.end)

    def failed(self, error: CacheproxyError) -> None:
        """The owner has died, or stands still."""
        self._pending = self._response = None
        if self._reply.has_begun:
            self._reply.break_off(error)
        else:
            self._reply.ordinary(None)

    # the client

    def go_on(self) -> None:
        """The client can take more."""
        if self._response is not None:
            self._response.go_on()

    def close(self) -> None:
        """The client has left: so does its request at the owner."""
        if self._pending is not None:
            self._reply.record().hierarchy = self._hierarchy
            self._pending.close()
        if self._response is not None:
            self._response.close()
        self._pending = self._response = None
