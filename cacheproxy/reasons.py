"""Why an exchange went the way it did: one word for the log, the metric, the field and `explain`."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Every outcome has exactly one; the values are stable: they appear in logs, metrics and fields."""

    # Answered from the store.
    HIT = "hit"
    REVALIDATED = "revalidated"
    STALE_WHILE_REVALIDATE = "stale-while-revalidate"
    STALE_MAX_STALE = "max-stale"
    STALE_IF_ERROR = "stale-if-error"
    STALE_DISCONNECTED = "disconnected"
    COLLAPSED = "collapsed"
    PARTIAL_HIT = "partial"

    # Why it went forward.
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    STALE = "stale"
    NO_CACHE = "no-cache"
    REQUEST_NO_CACHE = "request-no-cache"
    REQUEST_MAX_AGE = "request-max-age"
    REQUEST_MIN_FRESH = "request-min-fresh"
    METHOD = "method"
    REQUEST_BODY = "request-body"
    ROUTING_FIELD = "routing-field"
    PRECONDITION = "precondition"
    RANGE_AHEAD = "range-ahead"
    STORE_FAILED = "store-failed"

    # Why it went forward again, with the client's own Accept-Encoding.
    NO_TRANSFORM = "no-transform"
    UNKNOWN_CODING = "unknown-coding"
    NOT_ACCEPTABLE = "not-acceptable"
    DECODING_FAILED = "decoding-failed"

    # Why a response was stored, or was not.
    STORED = "stored"
    REQUEST_NO_STORE = "request-no-store"
    NO_STORE = "no-store"
    RULE = "rule"
    PRIVATE = "private"
    AUTHORIZATION = "authorization"
    CREDENTIALS_OVER_TLS = "credentials-over-tls"
    VARY_STAR = "vary-star"
    NOT_UNDERSTOOD = "not-understood"
    STATUS = "status"
    PARTIAL_CONTENT = "partial-content"
    NOTHING_TO_REUSE = "no-lifetime-or-validator"
    SET_COOKIE = "set-cookie"
    TOO_LARGE = "too-large"
    UNDELIMITED = "undelimited"
    DIGEST_MISMATCH = "digest-mismatch"

    # Answered by the proxy itself.
    ONLY_IF_CACHED = "only-if-cached"
    DENIED = "denied"
    PURGE = "purge"
    OPTIONS = "max-forwards"
    TUNNEL = "tunnel"
    CLIENT_GONE = "client-gone"

    # Errors: the words of RFC 9209 §2.3 where it has one.
    DNS_TIMEOUT = "dns_timeout"
    DNS_ERROR = "dns_error"
    DESTINATION_UNAVAILABLE = "destination_unavailable"
    DESTINATION_IP_PROHIBITED = "destination_ip_prohibited"
    DESTINATION_IP_UNROUTABLE = "destination_ip_unroutable"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_TERMINATED = "connection_terminated"
    CONNECTION_TIMEOUT = "connection_timeout"
    CONNECTION_READ_TIMEOUT = "connection_read_timeout"
    CONNECTION_WRITE_TIMEOUT = "connection_write_timeout"
    CONNECTION_LIMIT_REACHED = "connection_limit_reached"
    TLS_PROTOCOL_ERROR = "tls_protocol_error"
    TLS_CERTIFICATE_ERROR = "tls_certificate_error"
    HTTP_REQUEST_ERROR = "http_request_error"
    HTTP_REQUEST_DENIED = "http_request_denied"
    HTTP_RESPONSE_BODY_SIZE = "http_response_body_size"
    HTTP_RESPONSE_INCOMPLETE = "http_response_incomplete"
    HTTP_PROTOCOL_ERROR = "http_protocol_error"
    HTTP_RESPONSE_TIMEOUT = "http_response_timeout"
    PROXY_LOOP_DETECTED = "proxy_loop_detected"
    PROXY_INTERNAL_ERROR = "proxy_internal_error"


# RFC 9211 §2.2 knows eight words; ours are finer and go into `detail` where they differ.
_FWD = {
    Reason.URI_MISS: "uri-miss",
    Reason.VARY_MISS: "vary-miss",
    Reason.STALE: "stale",
    Reason.NO_CACHE: "stale",
    Reason.REQUEST_NO_CACHE: "request",
    Reason.REQUEST_MAX_AGE: "request",
    Reason.REQUEST_MIN_FRESH: "request",
    Reason.METHOD: "method",
    Reason.RANGE_AHEAD: "partial",
    Reason.STORE_FAILED: "miss",
}


def fwd_word(reason: Reason) -> str:
    """The RFC 9211 `fwd` value of a reason for going forward."""
    return _FWD.get(reason, "bypass")
