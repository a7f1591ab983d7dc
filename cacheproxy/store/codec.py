"""StoredResponse <-> bytes, with a format version: what cannot be read is a miss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cacheproxy.caching import extents
from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.options import CachingOptions
from cacheproxy.errors import StoreError
from cacheproxy.http.digests import Digest
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.http.names import names_of
from cacheproxy.store.schema import head_checksum

_VERSION = 3
# It had the fields as a list of names and values.
_VERSION_OF_PAIRS = 2
_LINE_END = "\r\n"
_DECODER = json.JSONDecoder()
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_NO_VARIANT = "[[],[]]"


def encode(stored: StoredResponse) -> bytes:
    """The head, variant and timing of a stored response; key, ids and length are columns."""
    return _ENCODER.encode(
        [
            _VERSION,
            stored.status,
            stored.reason_phrase,
            _LINE_END.join(stored.fields.texts),
            stored.nominated,
            stored.variant,
            stored.timing.request_time,
            stored.timing.response_time,
            stored.asked_for,
        ]
    ).encode()


def decode(
    data: bytes,
    options: CachingOptions,
    *,
    key: str,
    entry_id: int,
    body_id: int,
    length: int,
    parts: str,
    forced_stale: bool,
) -> StoredResponse:
    """The stored response again. Raises StoreError for another version or damaged bytes."""
    try:
        # Nothing stands before or behind it: `json.loads` would look.
        text = data.decode()
        document, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise StoreError("a stored head is longer than it should be")
        version, status, phrase, lines, nominated, variant, request_time, response_time, codings = document
        if version == _VERSION:
            fields = _fields_of(lines)
        elif version == _VERSION_OF_PAIRS:
            fields = Fields([(str(name), str(value)) for name, value in lines])
        else:
            raise StoreError(f"stored format {version} is not {_VERSION}")
        head = ResponseHead(int(status), str(phrase), fields)
        timing = Timing(float(request_time), float(response_time))
        return StoredResponse.build(
            key,
            tuple(nominated),
            tuple(variant),
            head,
            timing,
            options,
            entry_id=entry_id,
            body_id=body_id,
            length=None if length < 0 else length,
            held=extents.from_text(parts) if parts else None,
            asked_for=tuple(str(coding) for coding in codings),
            forced_stale=forced_stale,
        )
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise StoreError(f"a stored head cannot be read: {error}") from error


def _fields_of(lines: object) -> Fields:
    """Raises TypeError where it is no text, ValueError where a line has no name."""
    if not isinstance(lines, str):
        raise TypeError("the fields are no text")
    if not lines:
        return Fields()
    texts = tuple(lines.split(_LINE_END))
    return Fields.sent(texts, names_of(tuple([text[: text.index(": ")] for text in texts])))


def decode_row(row: Sequence[Any], options: CachingOptions) -> StoredResponse:
    """The stored response of a row: key, body_id, length, parts, stale, checksum, head, entry_id, and more.

    Raises StoreError where they are damaged.
    """
    key, body_id, length, parts, stale, checksum, head, entry_id = row[:8]
    if head_checksum(key, body_id, length, parts, head) != checksum:
        raise StoreError("a stored head is damaged")
    return decode(
        head,
        options,
        key=key,
        entry_id=entry_id,
        body_id=body_id,
        length=length,
        parts=parts,
        forced_stale=bool(stale),
    )


def digest_key(digest: Digest) -> bytes:
    """A digest as it stands in the file."""
    return f"{digest.algorithm}:".encode("ascii") + digest.value


def variant_key(stored: StoredResponse) -> str:
    """One text for the nominated fields and their values: equal texts are the same variant."""
    if not stored.nominated:
        return _NO_VARIANT
    return _ENCODER.encode([stored.nominated, stored.variant])


def parts_text(stored: StoredResponse) -> str:
    """Which bytes of the body are here, as a column; empty: all of them."""
    return "" if stored.held is None else extents.as_text(stored.held)
