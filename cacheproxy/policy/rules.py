"""The operator's `[[rules]]`: exceptions for hosts, URLs and content types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from cacheproxy.caching.naming import Place, never_changes, place
from cacheproxy.caching.overrides import NO_OVERRIDES, Overrides, OverridesFor, no_overrides
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
        return self._applies_to_url(str(target))

    def _applies_to_url(self, url: str) -> bool:
        if self.glob is not None and not fnmatchcase(url, self.glob):
            return False
        return not self.unchanging or _never_changes(url)

    def applies_to(self, target: TargetUri, fields: Fields) -> bool:
        """Whether the rule is about this response."""
        return self._is_of_type(fields) and self.applies(target)

    def about(self, url: str, fields: Fields) -> bool:
        """The same for the text of a URL whose host is known to match."""
        return self._applies_to_url(url) and self._is_of_type(fields)

    def _is_of_type(self, fields: Fields) -> bool:
        if self.content_type is None:
            return True
        essence = (fields.get("content-type") or "").partition(";")[0].strip(" \t").lower()
        return fnmatchcase(essence, self.content_type.lower())


def host_matches(host: str, pattern: str) -> bool:
    """Whether a lower-case host is meant by `name`, `*.glob` or `.suffix` (the domain itself included)."""
    pattern = pattern.lower()
    if pattern.startswith("."):
        return host == pattern[1:] or host.endswith(pattern)
    return fnmatchcase(host, pattern)


@lru_cache(maxsize=256)
def _never_changes(url: str) -> bool:
    # Several rules may ask for the same URL in a row.
    path, mark, query = url[url.find("/", url.find("://") + 3) :].partition("?")
    return never_changes(path, query if mark else None)


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
    if first_byte is None and idle is None:
        return default
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
    if not effective:
        return no_overrides

    # Most rules are for other hosts; which, is worked out once a host.
    @lru_cache(maxsize=1024)
    def for_host(host: str) -> tuple[Rule, ...]:
        return tuple(rule for rule in effective if rule.host is None or host_matches(host, rule.host))

    def overrides(key: str, fields: Fields) -> Overrides:
        host = _host_of(key)
        if host is None:
            return NO_OVERRIDES
        applying = [rule for rule in for_host(host) if rule.about(key, fields)]
        return _merged(applying) if applying else NO_OVERRIDES

    return overrides


def _overrides(rule: Rule) -> bool:
    values = (rule.min_lifetime_s, rule.max_lifetime_s, rule.ignore_reload, rule.never_store, rule.pin)
    return any(value is not None for value in values)


def _host_of(key: str) -> str | None:
    scheme, mark, rest = key.partition("://")
    try:
        return parse_absolute(f"{scheme}://{rest.partition('/')[0]}").origin.host if mark else None
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
