"""The validation request and what its answer means (RFC 9111 §4.3.1, §4.3.3, §4.3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.http.message import FieldLine, Fields, ResponseHead
from cacheproxy.http.validators import is_strong, parse_tag_list, weak_match

CONDITIONS = frozenset(
    {"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"}
)
_MAX_TAGS = 16


@dataclass(frozen=True, slots=True)
class Freshen:
    """The stored response holds: update it from the answer's fields and use it."""

    stored: StoredResponse


@dataclass(frozen=True, slots=True)
class Replace:
    """A full response: it takes the stored one's place."""


@dataclass(frozen=True, slots=True)
class PassOn:
    """The answer is the client's: its own validator matched, not one of ours."""


@dataclass(frozen=True, slots=True)
class Refetch:
    """A 304 that fits nothing we hold: ask again without conditions."""


@dataclass(frozen=True, slots=True)
class ServerFailure:
    """500, 502, 503 or 504: a stale stored response may be better (RFC 5861)."""


Outcome = Freshen | Replace | PassOn | Refetch | ServerFailure

FAILURE_STATUSES = frozenset({500, 502, 503, 504})


def conditional_fields(
    fields: Fields, chosen: StoredResponse | None, variants: Sequence[StoredResponse]
) -> Fields:
    """The request's fields with our conditions in place of the client's.

    If-None-Match names the entity tags of every stored variant and the client's own, so that whichever
    still holds costs a 304 only. If-Modified-Since goes with it where the chosen response has a date.
    """
    tags: list[str] = []
    for stored in ([chosen] if chosen is not None else []) + list(variants):
        tag = stored.etag
        if tag is not None and tag not in tags:
            tags.append(tag)
    client_tags = fields.get("if-none-match")
    if tags and client_tags is not None:
        tags += [tag for tag in parse_tag_list(client_tags) or [] if tag not in tags]
    lines: list[FieldLine] = [line for line in fields if line[0].lower() not in CONDITIONS]
    if tags:
        lines.append(("If-None-Match", ", ".join(tags[:_MAX_TAGS])))
    if chosen is not None and chosen.last_modified is not None:
        lines.append(("If-Modified-Since", chosen.last_modified))
    return Fields(lines)


def judge(
    answer: ResponseHead,
    chosen: StoredResponse | None,
    variants: Sequence[StoredResponse],
    client_fields: Fields,
) -> Outcome:
    """What the answer to our validation request means. `variants` are those whose tags were sent."""
    if answer.status in FAILURE_STATUSES:
        return ServerFailure()
    if answer.status != 304:
        return Replace()
    tag = answer.fields.only("etag")
    if tag is not None:
        # RFC 9111 §4.3.4: a validator in the 304 says which response it is about, and no other is freshened.
        for stored in ([chosen] if chosen is not None else []) + list(variants):
            if stored.etag is not None and (
                stored.etag == tag if is_strong(tag) else weak_match(stored.etag, tag)
            ):
                return Freshen(stored)
        if _client_has(client_fields, tag):
            return PassOn()
        if chosen is not None and chosen.etag is None and chosen.last_modified is not None:
            modified = answer.fields.only("last-modified")
            same = modified == chosen.last_modified or (modified is None and not is_strong(tag))
            return Freshen(chosen) if same else Refetch()
        return Refetch()
    modified = answer.fields.only("last-modified")
    if (
        chosen is not None
        and modified is not None
        and chosen.last_modified is not None
        and modified != chosen.last_modified
    ):
        return Refetch()
    others = [stored for stored in variants if stored is not chosen and stored.etag is not None]
    if chosen is None:
        return Freshen(others[0]) if len(others) == 1 and "if-none-match" not in client_fields else Refetch()
    if client_fields.get("if-none-match") is not None and chosen.etag is not None:
        known = parse_tag_list(client_fields.get("if-none-match") or "")
        if known is None or any(not weak_match(tag, chosen.etag) for tag in known):
            return Refetch()
    # Without a validator it can mean only the one that was asked about.
    return Freshen(chosen) if not others or all(stored.etag == chosen.etag for stored in others) else Refetch()


def _client_has(fields: Fields, tag: str) -> bool:
    value = fields.get("if-none-match")
    return value is not None and any(weak_match(tag, own) for own in parse_tag_list(value) or [])
