"""The origin's answers, pure: conditions, ranges, codings (RFC 9110 §12 to §14)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime

from benchmarks.savings.bodies import CODINGS, Body, encoded
from benchmarks.savings.resources import Resource, entity_tag

BOUNDARY = "savings-boundary-7d1f"
REASONS = {
    200: "OK", 206: "Partial Content", 301: "Moved Permanently", 302: "Found", 304: "Not Modified",
    404: "Not Found", 416: "Range Not Satisfiable", 503: "Service Unavailable",
}  # fmt: skip

Slice = tuple[Body, str, int, int]
"""Body, coding, first byte, end."""


@dataclass
class Answer:
    """A response: its parts are bytes as they stand, or slices of a body."""

    status: int
    fields: list[tuple[str, str]] = field(default_factory=list)
    parts: list[bytes | Slice] = field(default_factory=list)

    def length(self) -> int:
        return sum(len(part) if isinstance(part, bytes) else part[3] - part[2] for part in self.parts)

    def head(self) -> bytes:
        """Status line and fields, with Content-Length where there may be one."""
        lines = [f"HTTP/1.1 {self.status} {REASONS[self.status]}"]
        lines += [f"{name}: {value}" for name, value in self.fields]
        if self.status != 304:
            lines.append(f"Content-Length: {self.length()}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def accepted(value: str | None) -> str:
    """The best coding that an Accept-Encoding allows, empty for none."""
    weights: dict[str, float] = {}
    for item in (value or "").lower().split(","):
        coding, _, parameters = item.partition(";")
        weight = re.search(r"q\s*=\s*([0-9.]+)", parameters)
        weights[coding.strip()] = float(weight.group(1)) if weight else 1.0
    for coding in CODINGS:
        if weights.get(coding, weights.get("*", 0.0)) > 0:
            return coding
    return ""


def ranges_of(value: str, size: int) -> list[tuple[int, int]] | None:
    """Satisfiable (first, end) pairs; None where the field must be ignored."""
    if not value.startswith("bytes="):
        return None
    found = []
    for item in value[6:].split(","):
        match = re.fullmatch(r"\s*([0-9]*)-([0-9]*)\s*", item)
        if match is None or match.group(0).strip() == "-":
            return None
        first, last = match.groups()
        if not first:
            start, end = max(0, size - int(last)), size
        else:
            start, end = int(first), min(size, int(last) + 1 if last else size)
        if start < end:
            found.append((start, end))
    return found


def _not_modified(fields: dict[str, str], tag: str, modified: str) -> bool:
    if "if-none-match" in fields:
        tags = [one.strip().removeprefix("W/") for one in fields["if-none-match"].split(",")]
        return tag in tags or "*" in tags
    if modified and "if-modified-since" in fields:
        try:
            since = parsedate_to_datetime(fields["if-modified-since"])
        except ValueError:
            return False
        return parsedate_to_datetime(modified) <= since
    return False


def answer(
    resource: Resource, version: int, query: str, fields: dict[str, str], now: float, epoch: float
) -> Answer:
    """What the origin says; `fields` have lower-case names, `epoch` is the day when everything was new."""
    body = resource.body(version, resource.variant(query, fields))
    coding = accepted(fields.get("accept-encoding")) if resource.text else ""
    tag = entity_tag(body, coding) if resource.etag else ""
    modified = formatdate(epoch + version * 60, usegmt=True) if resource.modified else ""
    result = Answer(200, [("Date", formatdate(now, usegmt=True)), ("Server", "savings")])
    if resource.control:
        result.fields.append(("Cache-Control", resource.control))
    result.fields += [(name, value) for name, value in (("ETag", tag), ("Last-Modified", modified)) if value]
    vary = [
        *(["Accept-Encoding"] if resource.text else []),
        *(["Accept-Language"] if resource.languages else []),
    ]
    if vary:
        result.fields.append(("Vary", ", ".join(vary)))
    result.fields += [(name, value) for name, value in resource.fields]
    if resource.status == 200 and _not_modified(fields, tag, modified):
        result.status = 304
        return result
    result.fields.append(("Content-Type", "text/html" if resource.text else "application/octet-stream"))
    if coding:
        result.fields.append(("Content-Encoding", coding))
    if resource.body_name:
        result.fields.append(("Repr-Digest", body.digest()))
    size = len(encoded(body, coding)) if coding else body.size
    if resource.status != 200:
        result.status = resource.status
        result.parts.append((body, coding, 0, size))
        return result
    result.fields.append(("Accept-Ranges", "bytes"))
    _cut(result, (body, coding, 0, size), fields, tag, modified)
    return result


def _cut(result: Answer, whole: Slice, fields: dict[str, str], tag: str, modified: str) -> None:
    """The whole body, or what Range and If-Range ask of it."""
    body, coding, _, size = whole
    condition = fields.get("if-range")
    wanted = ranges_of(fields.get("range", ""), size)
    if wanted is None or (condition is not None and condition not in (tag, modified)):
        result.parts.append(whole)
    elif not wanted:
        result.status = 416
        result.fields.append(("Content-Range", f"bytes */{size}"))
    elif len(wanted) == 1:
        result.status = 206
        first, end = wanted[0]
        result.fields.append(("Content-Range", f"bytes {first}-{end - 1}/{size}"))
        result.parts.append((body, coding, first, end))
    else:
        result.status = 206
        kind = next(value for name, value in result.fields if name == "Content-Type")
        result.fields = [(name, value) for name, value in result.fields if name != "Content-Type"]
        result.fields.append(("Content-Type", f"multipart/byteranges; boundary={BOUNDARY}"))
        for first, end in wanted:
            head = f"\r\n--{BOUNDARY}\r\nContent-Type: {kind}\r\nContent-Range: bytes {first}-{end - 1}/{size}\r\n\r\n"
            result.parts += [head.encode(), (body, coding, first, end)]
        result.parts.append(f"\r\n--{BOUNDARY}--\r\n".encode())
