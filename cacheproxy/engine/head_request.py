"""What the answer to a forwarded HEAD means for the stored GET response (RFC 9111 §4.3.5)."""

from __future__ import annotations

from cacheproxy.caching.freshening import Update, head_confirms, may_update, merge
from cacheproxy.engine.assembled import AssembledBody
from cacheproxy.engine.parts import Parts
from cacheproxy.http.message import RequestHead
from cacheproxy.ports import Candidate, UpstreamResponse


async def update_from_head(
    parts: Parts, request: RequestHead, stale: Candidate, response: UpstreamResponse
) -> None:
    """Freshen, mark stale or drop the stored response as a 200 to HEAD says."""
    stored = stale.stored
    update = may_update(request, response.head, is_private_connection=response.is_private_connection)
    if update is Update.DROP:
        parts.store.invalidate(stored.key)
    elif isinstance(stale.body, AssembledBody):
        return
    elif not head_confirms(stored, response.head):
        parts.store.freshen(stale, stored.stale())
    elif update is Update.APPLY:
        parts.store.freshen(stale, merge(stored, response.head, response.timing, parts.caching))
