"""Errors as answers: the right status, Proxy-Status (RFC 9209), and a page that a person understands."""

from __future__ import annotations

from html import escape

from cacheproxy.errors import CacheproxyError, ClientError, UpstreamError
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.status_fields import proxy_status
from cacheproxy.ports import Answer
from cacheproxy.reasons import Reason

PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    508: "Loop Detected",
}

_STATUS = {
    Reason.DNS_TIMEOUT: 504,
    Reason.CONNECTION_TIMEOUT: 504,
    Reason.CONNECTION_READ_TIMEOUT: 504,
    Reason.CONNECTION_WRITE_TIMEOUT: 504,
    Reason.HTTP_RESPONSE_TIMEOUT: 504,
    Reason.DESTINATION_IP_PROHIBITED: 403,
    Reason.HTTP_REQUEST_DENIED: 403,
    Reason.CONNECTION_LIMIT_REACHED: 503,
    Reason.PROXY_LOOP_DETECTED: 508,
    Reason.PROXY_INTERNAL_ERROR: 500,
}

_ADVICE = {
    Reason.DNS_TIMEOUT: "The name server is slow or out of reach. Try again in a moment.",
    Reason.DNS_ERROR: "Check the spelling of the host name. If it is right, the site's name may be gone.",
    Reason.CONNECTION_REFUSED: "The host is up, but nothing listens on that port. Check the port, or try later.",
    Reason.CONNECTION_TIMEOUT: "The host does not answer. It may be down, or a firewall may be in between.",
    Reason.CONNECTION_TERMINATED: "The site closed the connection. Try again.",
    Reason.CONNECTION_READ_TIMEOUT: "The site stopped in the middle of its answer. Try again.",
    Reason.HTTP_RESPONSE_TIMEOUT: "The site accepted the request but did not answer in time. Try again later.",
    Reason.HTTP_RESPONSE_INCOMPLETE: "The site broke off its answer. Try again.",
    Reason.HTTP_PROTOCOL_ERROR: "The site's answer breaks the rules of HTTP, so it was not passed on.",
    Reason.TLS_CERTIFICATE_ERROR: "The site cannot prove who it is. Its operator must renew or correct the certificate.",
    Reason.TLS_PROTOCOL_ERROR: "No encrypted connection could be agreed on with the site.",
    Reason.DESTINATION_IP_PROHIBITED: "The operator of this proxy can allow it with access.allow_destinations.",
    Reason.DESTINATION_IP_UNROUTABLE: "There is no way to that network from here.",
    Reason.HTTP_REQUEST_DENIED: "The operator of this proxy decides what is allowed.",
    Reason.CONNECTION_LIMIT_REACHED: "Too many requests to that site are under way. Try again in a moment.",
    Reason.PROXY_LOOP_DETECTED: "Check the proxy settings: the request would go round in a circle.",
    Reason.HTTP_REQUEST_ERROR: "The program that sent this request must be corrected.",
    Reason.ONLY_IF_CACHED: "Ask again without only-if-cached.",
}


def status_of(error: CacheproxyError) -> int:
    """The status that an error is answered with."""
    if isinstance(error, ClientError):
        return error.status
    if isinstance(error, UpstreamError):
        return _STATUS.get(error.kind, 502)
    return 500


def kind_of(error: CacheproxyError) -> Reason:
    """The RFC 9209 error type."""
    return error.kind if isinstance(error, ClientError | UpstreamError) else Reason.PROXY_INTERNAL_ERROR


def answer_to(error: CacheproxyError, request: RequestHead | None, date: str) -> Answer:
    """The answer for an error. It echoes the target and what failed, never a field of the request."""
    status = status_of(error)
    kind = kind_of(error)
    host = ""
    detail = "an unexpected error in the proxy; its log says more"
    advice = _ADVICE.get(kind, "Try again; tell the operator of this proxy if it stays.")
    lines = [("Date", date)]
    if isinstance(error, UpstreamError):
        host, detail = error.host, error.detail
    elif isinstance(error, ClientError):
        detail = error.detail
        advice = error.advice or advice
        if error.allow:
            lines.append(("Allow", error.allow))
    if kind is Reason.ONLY_IF_CACHED:
        lines.append(("Cache-Status", "cacheproxy; fwd=miss; detail=only-if-cached"))
    else:
        lines.append(("Proxy-Status", proxy_status(str(kind), details=detail)))
    html = request is not None and _wants_html(request.fields)
    phrase = PHRASES.get(status, "Error")
    where = _where(request, host)
    content = (_html if html else _text)(status, phrase, where, detail, advice, str(kind)).encode()
    lines += [
        ("Content-Type", f"text/{'html' if html else 'plain'}; charset=utf-8"),
        ("Content-Language", "en"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ]
    must_close = isinstance(error, ClientError) and error.close
    return Answer(
        ResponseHead(status, phrase, Fields(lines)),
        content=content,
        length=len(content),
        must_close=must_close,
    )


def _wants_html(fields: Fields) -> bool:
    accept = (fields.get("accept") or "").lower()
    return "text/html" in accept


def _where(request: RequestHead | None, host: str) -> str:
    if request is None:
        return host
    if request.target is None:
        return request.request_target if request.method == "CONNECT" else host
    # The query may hold secrets, and says nothing about what failed.
    return str(request.target).partition("?")[0]


def _text(status: int, phrase: str, where: str, detail: str, advice: str, kind: str) -> str:
    subject = f"{where}\n\n" if where else ""
    return (
        f"{status} {phrase}\n\n{subject}What failed: {detail}.\nWhat to try:  {advice}\n\ncacheproxy, {kind}\n"
    )


def _html(status: int, phrase: str, where: str, detail: str, advice: str, kind: str) -> str:
    subject = f"<p class=where>{escape(where)}</p>" if where else ""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{status} {escape(phrase)}</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:12vh auto;padding:0 1rem;color:#222;"
        "background:#fff}h1{font-size:1.5rem;margin:0 0 .5rem}.where{font-family:monospace;overflow-wrap:anywhere;"
        "background:#f2f2f2;padding:.5rem .75rem;border-radius:4px}dt{font-weight:600;margin-top:1rem}dd{margin:0}"
        "footer{margin-top:2.5rem;color:#666;font-size:.85rem}</style>"
        f"<h1>{status} {escape(phrase)}</h1>{subject}<dl><dt>What failed</dt><dd>{escape(detail)}.</dd>"
        f"<dt>What to try</dt><dd>{escape(advice)}</dd></dl><footer>cacheproxy &middot; {escape(kind)}</footer>"
        "</html>\n"
    )
