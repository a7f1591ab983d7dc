"""May this request go on at all: the checks before any cache or origin is asked."""

from __future__ import annotations

from cacheproxy.engine.parts import Parts
from cacheproxy.errors import ClientError
from cacheproxy.http.forwarding import has_passed, remaining_forwards
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.status_fields import cache_status
from cacheproxy.http.uri import Origin
from cacheproxy.ports import Answer, Exchange
from cacheproxy.reasons import Reason

# The fields that `admit_head` looks at: none of them may be one that `caching.facts.says_nothing` of.
JUDGED = frozenset({"via", "expect"})
ALLOW = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, CONNECT"


def admit(parts: Parts, exchange: Exchange) -> Answer | None:
    """An answer of the proxy's own, or None to go on. Raises ClientError where the request is refused.

    A check belongs into one of the three functions below: the hot path asks each of them, and keeps its
    verdict for as long as what it was given and the rules stay the same.
    """
    request = exchange.head
    admit_client(parts, exchange.client)
    admit_head(parts, request)
    if request.target is None:
        return _without_target(parts, request)
    admit_origin(parts, request.target.origin)
    if request.method == "OPTIONS" and remaining_forwards(request.fields) == 0:
        # RFC 9110 §7.6.2: the last hop that may see it answers.
        return _own_options(parts)
    return None


def admit_client(parts: Parts, client: str) -> None:
    """The checks of who asks. Raises ClientError."""
    refused = parts.access.refuses_client(client)
    if refused is not None:
        raise ClientError(
            403,
            refused,
            kind=Reason.HTTP_REQUEST_DENIED,
            close=True,
            advice="Ask the operator to add your network to access.clients.",
        )


def admit_head(parts: Parts, request: RequestHead) -> None:
    """The checks of method and fields. Raises ClientError."""
    if request.method != "TRACE" and JUDGED.isdisjoint(request.fields.names()):
        return
    if request.method == "TRACE":
        # RFC 9110 §9.3.8: it would echo credentials that other hops added.
        raise ClientError(405, "TRACE is not forwarded", kind=Reason.HTTP_REQUEST_DENIED, allow=ALLOW)
    if has_passed(request.fields, parts.via):
        raise ClientError(
            508,
            "the request has been through this proxy already",
            kind=Reason.PROXY_LOOP_DETECTED,
            close=True,
            advice="Two proxies, or a proxy and a redirect, send requests round in a circle.",
        )
    expect = request.fields.get("expect")
    if request.target is not None and expect is not None and expect.lower() != "100-continue":
        raise ClientError(417, "the expectation cannot be met (RFC 9110 section 10.1.1)", close=True)


def admit_origin(parts: Parts, origin: Origin) -> None:
    """The checks of where it goes. Raises ClientError."""
    if origin.scheme == "https" and not parts.absolute_https:
        raise ClientError(
            403,
            "https:// in absolute-form is turned off here (upstream.absolute_https)",
            kind=Reason.HTTP_REQUEST_DENIED,
            advice="Use CONNECT, as browsers and curl do by themselves.",
        )
    denied = parts.access.refuses_host(origin.host, origin.port)
    if denied is not None:
        raise ClientError(
            403,
            denied,
            kind=Reason.DESTINATION_IP_PROHIBITED,
            advice="The operator of this proxy can allow it with access.allow_destinations.",
        )


def _without_target(parts: Parts, request: RequestHead) -> Answer:
    if request.method == "OPTIONS" and request.request_target == "*":
        return _own_options(parts)
    raise ClientError(
        400,
        "this is a proxy: the request target must be a whole URL",
        close=True,
        advice=(
            "Set this address as the HTTP proxy of your program (for example http_proxy=http://host:3128)"
            " instead of opening it like a web site."
        ),
    )


def _own_options(parts: Parts) -> Answer:
    fields = Fields(
        [("Allow", ALLOW), ("Via", f"1.1 {parts.via}"), ("Cache-Status", cache_status(detail="proxy"))]
    )
    return Answer(ResponseHead(200, "OK", fields), length=0)


def lowered_max_forwards(fields: Fields, method: str) -> Fields:
    """Max-Forwards one less for OPTIONS (RFC 9110 §7.6.2); other methods pass it on as it is."""
    if method != "OPTIONS":
        return fields
    left = remaining_forwards(fields)
    return fields if left is None else fields.replaced("Max-Forwards", str(left - 1))
