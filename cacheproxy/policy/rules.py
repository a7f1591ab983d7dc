"""The operator's `[[rules]]`: exceptions for hosts, URLs and content types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from cacheproxy.caching.naming import Place, never_changes, place
from cacheproxy.caching.overrides import NO_OVERRIDES, Overrides, OverridesFor
from cacheproxy.errors import SyntaxFault
from cacheproxy.http.message import Fields
from cacheproxy.http.uri import TargetUri, parse_absolute


@dataclass(frozen=True, slots=True)
class Rule:
    """Applies where every given condition holds; a value of None leaves the setting as it is.

    Conditions: `host` (exact, with `*` and `?`, or `.suffix` for a domain and all below it), `glob` over
    the whole URL, `content_type` (`video/*`), `unchanging` (the file's name says that it never changes).
    Lifetimes and time-outs in seconds. `ignore_query` names parameters that leave key and request,
    `signed_query` those that leave the key only. `preset` names where the rule comes from.
    """

    host: str | None = None
    glob: str | None = None
    first_byte_timeout_s: float | None = None
    idle_timeout_s: float | None = None
    content_type: str | None = None
    unchanging: bool = False
    min_lifetime_s: float | None = None
    max_lifetime_s: float | None = None
    ignore_reload: bool | None = None
    never_store: bool | None = None
    pin: bool | None = None
    ignore_query: tuple[str, ...] | None = None
    signed_query: tuple[str, ...] | None = None
    preset: str = ""

    def applies(self, target: TargetUri) -> bool:
        """Whether the rule is about this target URI, as far as that can be told without a response."""
        if self.host is not None and not host_matches(target.origin.host, self.host):
            return False
        if self.glob is not None and not fnmatchcase(str(target), self.glob):
            return False
        return not self.unchanging or never_changes(*_split(target))

    def applies_to(self, target: TargetUri, fields: Fields) -> bool:
        """Whether the rule is about this response."""
        if self.content_type is not None:
            essence = (fields.get("content-type") or "").partition(";")[0].strip(" \t").lower()
            if not fnmatchcase(essence, self.content_type.lower()):
                return False
        return self.applies(target)


def host_matches(host: str, pattern: str) -> bool:
    """Whether a lower-case host is meant by `name`, `*.glob` or `.suffix` (the domain itself included)."""
    pattern = pattern.lower()
    if pattern.startswith("."):
        return host == pattern[1:] or host.endswith(pattern)
    return fnmatchcase(host, pattern)


def _split(target: TargetUri) -> tuple[str, str | None]:
    path, mark, query = target.path_and_query.partition("?")
    return path, query if mark else None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for an origin: for the first byte, and between two pieces of body."""

    first_byte_s: float
    idle_s: float


def timeouts_for(target: TargetUri, rules: Sequence[Rule], default: Timeouts) -> Timeouts:
    """The time-outs of a target: the first rule that applies and sets one wins."""
    first_byte = idle = None
    for rule in rules:
        if rule.first_byte_timeout_s is None and rule.idle_timeout_s is None:
            continue
        if rule.content_type is None and rule.applies(target):
            first_byte = rule.first_byte_timeout_s if first_byte is None else first_byte
            idle = rule.idle_timeout_s if idle is None else idle
    return Timeouts(
        default.first_byte_s if first_byte is None else first_byte, default.idle_s if idle is None else idle
    )


@dataclass(frozen=True, slots=True)
class QueryNames:
    """Parameters that leave key and request (`ignored`), and that leave the key only (`signing`)."""

    ignored: tuple[str, ...] = ()
    signing: tuple[str, ...] = ()


NO_QUERY_NAMES = QueryNames()


def query_names(target: TargetUri, rules: Sequence[Rule]) -> QueryNames:
    """Which query parameters the rules leave out for a target: the first rule that says so wins."""
    if "?" not in target.path_and_query:
        return NO_QUERY_NAMES
    ignored = signing = None
    for rule in rules:
        if rule.ignore_query is None and rule.signed_query is None:
            continue
        if rule.content_type is None and rule.applies(target):
            ignored = rule.ignore_query if ignored is None else ignored
            signing = rule.signed_query if signing is None else signing
    return QueryNames(ignored or (), signing or ())


def placed(target: TargetUri, rules: Sequence[Rule], dropped: Sequence[str]) -> Place:
    """Where a GET or HEAD of `target` is fetched and stored: `dropped` (`cache.drop_query`) and the rules.

    For other methods only the key counts (what they invalidate); they are sent as they came.
    """
    names = query_names(target, rules)
    return place(target, dropped, names.ignored, names.signing)


def overrides_from(rules: Sequence[Rule]) -> OverridesFor:
    """The function that caching asks: what these rules say about a key and a response's fields."""
    effective = tuple(rule for rule in rules if _overrides(rule))

    def overrides(key: str, fields: Fields) -> Overrides:
        target = _target_of(key)
        applying = [] if target is None else [rule for rule in effective if rule.applies_to(target, fields)]
        return _merged(applying) if applying else NO_OVERRIDES

    return overrides


def _overrides(rule: Rule) -> bool:
    values = (rule.min_lifetime_s, rule.max_lifetime_s, rule.ignore_reload, rule.never_store, rule.pin)
    return any(value is not None for value in values)


@lru_cache(maxsize=256)
def _target_of(key: str) -> TargetUri | None:
    try:
        return parse_absolute(key)
    except SyntaxFault:
        return None


def _first(applying: Sequence[Rule], value: Callable[[Rule], float | bool | None]) -> float | bool | None:
    return next((found for rule in applying if (found := value(rule)) is not None), None)


def _merged(applying: Sequence[Rule]) -> Overrides:
    shortest = _first(applying, lambda rule: rule.min_lifetime_s)
    longest = _first(applying, lambda rule: rule.max_lifetime_s)
    lengthening = next((rule for rule in applying if rule.min_lifetime_s is not None), None)
    names = [rule.preset or rule.glob or rule.host or rule.content_type or "" for rule in applying]
    return Overrides(
        min_lifetime_s=shortest or 0.0,
        max_lifetime_s=longest,
        ignore_reload=bool(_first(applying, lambda rule: rule.ignore_reload)),
        never_store=bool(_first(applying, lambda rule: rule.never_store)),
        pin=bool(_first(applying, lambda rule: rule.pin)),
        lengthens_pages=lengthening is not None and lengthening.content_type is not None,
        source=", ".join(dict.fromkeys(names)),
    )
