"""How long a message's body is (RFC 9112 §6.3). Anything ambiguous is refused."""

from __future__ import annotations

from typing import NamedTuple

from cacheproxy.errors import ClientError, SyntaxFault
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.syntax import parse_digits

MAX_LENGTH = 2**62
# As many digits are a smaller number in any case.
_SHORT_LENGTH = 18


class Framing(NamedTuple):
    """`length` bytes, or chunked, or (responses only) to the end of the connection when both are unset."""

    length: int | None = None
    chunked: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is no body at all."""
        return self.length == 0


NO_BODY = Framing(length=0)
CHUNKED = Framing(chunked=True)
TO_CLOSE = Framing()


def content_length(fields: Fields) -> int | None:
    """Content-Length as a number, None if absent. Raises SyntaxFault for anything but one run of digits."""
    values = fields.all("content-length")
    if not values:
        return None
    if len(values) > 1:
        raise SyntaxFault("Content-Length appears more than once")
    length = parse_digits(values[0])
    if length is None or length > MAX_LENGTH:
        raise SyntaxFault("Content-Length is not a valid number")
    return length


def request_framing(head: RequestHead) -> Framing:
    """The framing of a request's body. Raises ClientError (400, 501), always closing the connection."""
    fields = head.fields
    try:
        length = content_length(fields)
    except SyntaxFault as fault:
        raise ClientError(400, str(fault), close=True) from None
    codings = fields.all("transfer-encoding")
    if not codings:
        return NO_BODY if length is None else Framing(length=length)
    # RFC 9112 §6.1, §6.3: both fields, or a coding in HTTP/1.0, is how requests are smuggled.
    if length is not None:
        raise ClientError(400, "both Content-Length and Transfer-Encoding are present", close=True)
    if head.version < (1, 1):
        raise ClientError(400, "Transfer-Encoding is not allowed in HTTP/1.0", close=True)
    if len(codings) > 1:
        raise ClientError(400, "Transfer-Encoding appears more than once", close=True)
    if codings[0].lower() == "chunked":
        return CHUNKED
    names = [part.strip(" \t").lower() for part in codings[0].split(",")]
    if names.count("chunked") > 1 or (names[-1] != "chunked" and "chunked" in names) or "" in names:
        raise ClientError(400, "Transfer-Encoding is malformed", close=True)
    raise ClientError(501, "transfer codings other than chunked are not supported", close=True)


def response_framing(status: int, method: str, fields: Fields, version: tuple[int, int]) -> Framing:
    """The framing of a final response to `method`. Raises SyntaxFault where it cannot be trusted."""
    place = fields.named.sole_length
    if place >= 0 and method != "HEAD" and status not in (204, 304):
        digits = fields.value_at(place)
        if digits.isdigit() and digits.isascii() and len(digits) <= _SHORT_LENGTH:
            # The usual case; below it would come to the same.
            return Framing(int(digits))
    codings = fields.all("transfer-encoding")
    length = content_length(_equal_lengths_as_one(fields))
    if method == "HEAD" or status in (204, 304):
        return NO_BODY
    if codings:
        if length is not None:
            raise SyntaxFault("both Content-Length and Transfer-Encoding are present")
        if version < (1, 1):
            raise SyntaxFault("Transfer-Encoding in an HTTP/1.0 response")
        if len(codings) > 1 or codings[0].lower() != "chunked":
            raise SyntaxFault(f"unsupported transfer coding {', '.join(codings)[:40]!r}")
        return CHUNKED
    return TO_CLOSE if length is None else Framing(length=length)


def _equal_lengths_as_one(fields: Fields) -> Fields:
    # RFC 9110 §8.6 lets a recipient replace equal repeated values by one; from an origin that is harmless.
    values = fields.all("content-length")
    if len(values) == 1 and "," not in values[0]:
        return fields
    parts = [part.strip(" \t") for value in values for part in value.split(",")]
    if len(parts) > 1 and len(set(parts)) == 1 and parse_digits(parts[0]) is not None:
        return fields.replaced("Content-Length", parts[0])
    return fields
