"""Squid's result tags, as the tools that read its access log know them."""

from __future__ import annotations

from cacheproxy.reasons import Reason

REFRESH_FAILED = "TCP_REFRESH_FAIL_OLD"


def hit_tag(reason: Reason, tier: str, status: int) -> str:
    """The tag of an answer from the store."""
    if reason is Reason.REVALIDATED:
        return "TCP_REFRESH_UNMODIFIED"
    if reason is Reason.PARTIAL_HIT:
        return "TCP_MISS"
    if status == 304:
        return "TCP_IMS_HIT"
    if tier == "flight":
        return "TCP_CF_HIT"
    if status >= 400 and status != 416:
        return "TCP_NEGATIVE_HIT"
    return "TCP_MEM_HIT" if tier == "memory" else "TCP_HIT"


def forward_tag(reason: Reason, *, was_validation: bool) -> str:
    """The tag of an answer from the origin."""
    if was_validation:
        return "TCP_REFRESH_MODIFIED"
    if reason in (Reason.REQUEST_NO_CACHE, Reason.REQUEST_MAX_AGE):
        return "TCP_CLIENT_REFRESH_MISS"
    return "TCP_MISS"
