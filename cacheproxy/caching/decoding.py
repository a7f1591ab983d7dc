"""A stored or arriving coding against what the client can read: as it is, decoded, or asked for again.

The decision and the fields of a decoded reply; the decoders themselves are not here (RFC 9110 §8.4, §7.7).
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheproxy.http.cache_control import parse_response_directives
from cacheproxy.http.codings import IDENTITY, acceptable, asks_for, content_codings
from cacheproxy.http.message import FieldLine, Fields
from cacheproxy.http.validators import is_strong, parse_tag_list
from cacheproxy.http.vary import nominated_names
from cacheproxy.reasons import Reason


@dataclass(frozen=True, slots=True)
class AsIs:
    """Pass the content on as it was received; ranges apply."""


@dataclass(frozen=True, slots=True)
class Decode:
    """Undo these codings, the first one first; the reply carries `decoded_fields`, and ranges do not apply."""

    codings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Neither is right: fetch with the client's own Accept-Encoding, and do so for this host for a while."""

    reason: Reason


Decision = AsIs | Decode | AskAgain

_TEXT_TYPES = frozenset(
    {
        "application/ecmascript",
        "application/graphql",
        "application/javascript",
        "application/json",
        "application/manifest+json",
        "application/sql",
        "application/x-javascript",
        "application/x-ndjson",
        "application/x-sh",
        "application/xml",
        "application/yaml",
        "image/svg+xml",
        "message/http",
        "model/gltf+json",
    }
)
_TEXT_SUFFIXES = ("+json", "+xml", "+yaml", "+json-seq")
# Names of files that are coded themselves: a server may label the file's own coding Content-Encoding
# (Apache's AddEncoding), and then its bytes, not what they decode to, are what a download wants.
_OWN_NAMES = {
    "gzip": (".gz", ".gzip", ".svgz", ".taz", ".tgz", ".z"),
    "br": (".br",),
    "zstd": (".tzst", ".zst"),
}

# Lengths, offsets and digests of the coded form (RFC 9110 §8.6, §14.3; RFC 9530 §2, §3; RFC 3230 §4.3.2).
_OF_THE_CODED_FORM = frozenset(
    {
        "accept-ranges",
        "content-digest",
        "content-encoding",
        "content-length",
        "content-md5",
        "content-range",
        "digest",
        "repr-digest",
    }
)


def is_text(content_type: str | None) -> bool:
    """Whether a media type is one that servers compress on the way; False where there is none."""
    if content_type is None:
        return False
    essence = content_type.partition(";")[0].strip(" \t").lower()
    return essence.startswith("text/") or essence in _TEXT_TYPES or essence.endswith(_TEXT_SUFFIXES)


def decide(response: Fields, client: Fields, asked_for: tuple[str, ...], path: str = "") -> Decision:
    """How content with these response fields reaches a client with these request fields.

    `asked_for` holds the codings that the request that fetched it named in the client's stead (`upgraded`);
    empty where the client's own Accept-Encoding went to the origin: then the RFC's rules have decided
    already. `path` is the target's, without query: its ending may say that the file itself is coded.
    """
    codings = content_codings(response)
    if codings == () or not asked_for:
        return AsIs()
    if codings is None:
        value = (response.get("content-encoding") or "").lower()
        return AskAgain(Reason.UNKNOWN_CODING) if any(one in value for one in asked_for) else AsIs()
    if not any(coding in asked_for for coding in codings):
        # Not for what we added: asking without it would bring the same.
        return AsIs()
    if all(asks_for(client, coding) for coding in codings):
        return AsIs()
    if parse_response_directives(response).no_transform:
        # RFC 9110 §7.7: only the origin may then make another form of it.
        return AskAgain(Reason.NO_TRANSFORM)
    if len(codings) > 1 or codings[0] not in asked_for or "content-range" in response:
        return AskAgain(Reason.UNKNOWN_CODING)
    if not acceptable(client, IDENTITY):
        return AskAgain(Reason.NOT_ACCEPTABLE)
    coding = codings[0]
    nominated = nominated_names(response)
    is_negotiated = nominated is None or "accept-encoding" in nominated
    is_coded_file = path.lower().endswith(_OWN_NAMES.get(coding, ()))
    if coding == "gzip" and not is_negotiated and (is_coded_file or not is_text(response.get("content-type"))):
        # Everybody gets these bytes, whatever they accept: a .tar.gz that is labelled as coded.
        return AsIs()
    if is_coded_file:
        # Coded on the way, or the file's own coding: only an answer to the client's own words can tell.
        return AskAgain(Reason.UNKNOWN_CODING)
    return Decode(codings)


def decoded_fields(fields: Fields) -> Fields:
    """The fields of a decoded reply, to GET and HEAD and in a 304, from those of the coded response.

    RFC 9110 §8.8.1: the decoded form is another representation of the same content, so a strong tag turns
    weak. Content-Length goes because it is not known before the end.
    """
    lines: list[FieldLine] = []
    for line in fields.without(_OF_THE_CODED_FORM):
        is_strong_tag = line[0].lower() == "etag" and is_strong(line[1])
        lines.append((line[0], "W/" + line[1]) if is_strong_tag else line)
    nominated = nominated_names(Fields(lines))
    if nominated is not None and "accept-encoding" not in nominated:
        lines.append(("Vary", "Accept-Encoding"))
    return Fields(lines)


def decoded_request(client: Fields, etag: str | None) -> Fields:
    """The client's fields where the reply will be decoded from a response with `etag`.

    Its range goes (offsets of the decoded form are not known), and If-None-Match names the stored tag
    again where we had weakened it, so that origins that compare byte for byte agree as well.
    """
    fields = client.without({"range", "if-range"})
    condition = fields.get("if-none-match")
    if condition is None or etag is None or not is_strong(etag):
        return fields
    tags = parse_tag_list(condition)
    if tags is None or "W/" + etag not in tags:
        return fields
    restored = dict.fromkeys(etag if tag == "W/" + etag else tag for tag in tags)
    return fields.replaced("If-None-Match", ", ".join(restored))
