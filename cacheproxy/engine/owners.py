"""Which worker owns which key, and how it is asked."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from cacheproxy.engine.parts import Parts
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.uri import Origin
from cacheproxy.policy.rules import timeouts_for
from cacheproxy.ports import UpstreamRequest

_MARGIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Owners:
    """Who owns which key: `count` workers, of which this is number `me`."""

    me: int
    count: int

    def of(self, key: str) -> int:
        """The owner's number."""
        return zlib.crc32(key.encode("utf-8", "surrogateescape")) % self.count

    def owns(self, key: str) -> bool:
        """Whether it is this worker."""
        return self.of(key) == self.me

    def request(self, key: str, head: RequestHead, parts: Parts) -> UpstreamRequest:
        """A request for the owner of `key`, without fields and body."""
        assert head.target is not None
        # The owner keeps the origin's deadlines; this one is for an owner that stands still.
        limits = timeouts_for(head.target, parts.rules, parts.timeouts)
        return UpstreamRequest(
            Origin("http", socket_name(self.of(key)), 80),
            head.method,
            head.request_target,
            _NO_FIELDS,
            _MARGIN_S + 4 * limits.first_byte_s,
            _MARGIN_S + 4 * limits.idle_s,
        )


def socket_name(number: int) -> str:
    """The Unix socket of a worker, in the directory of sockets."""
    return f"worker-{number}.sock"


_NO_FIELDS = Fields()
