"""`[[rules]]` tables into Rule values, and each in one sentence for `config check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cacheproxy.config.nearest import nearest
from cacheproxy.config.units import format_duration, parse_duration
from cacheproxy.errors import ConfigError
from cacheproxy.policy.presets import PRESETS, preset_rules
from cacheproxy.policy.rules import Rule


class RuleKind(StrEnum):
    """What the value of a key in `[[rules]]` is."""

    TEXT = "text"
    DURATION = "duration"
    SWITCH = "switch (true or false)"
    TEXTS = "list of texts"


@dataclass(frozen=True, slots=True)
class RuleKey:
    """One key of `[[rules]]`: its kind, and what it does."""

    kind: RuleKind
    help: str


RULE_KEYS: dict[str, RuleKey] = {
    "preset": RuleKey(RuleKind.TEXT, f"a set of rules: {', '.join(PRESETS)}; with host: for a mirror"),
    "host": RuleKey(RuleKind.TEXT, "host name, * and ? allowed; .example.com with all below it"),
    "glob": RuleKey(RuleKind.TEXT, "whole URL, * and ? allowed"),
    "content_type": RuleKey(RuleKind.TEXT, "media type of the response, * and ? allowed"),
    "unchanging": RuleKey(RuleKind.SWITCH, "only files whose name holds a version or a hash"),
    "min_lifetime": RuleKey(
        RuleKind.DURATION,
        "fresh at least this long; never what no-store, private, no-cache, s-maxage or must-revalidate protect",
    ),
    "max_lifetime": RuleKey(RuleKind.DURATION, "fresh at most this long"),
    "ignore_reload": RuleKey(RuleKind.SWITCH, "a client's no-cache and max-age do not count"),
    "never_store": RuleKey(RuleKind.SWITCH, "not stored"),
    "pin": RuleKey(RuleKind.SWITCH, "not evicted for space"),
    "ignore_query": RuleKey(RuleKind.TEXTS, "query parameters left out of the key and of the request"),
    "signed_query": RuleKey(
        RuleKind.TEXTS, "query parameters that only sign the link: sent, but left out of the key"
    ),
    "first_byte_timeout": RuleKey(RuleKind.DURATION, "as upstream.first_byte_timeout, for what matches"),
    "idle_timeout": RuleKey(RuleKind.DURATION, "as upstream.idle_timeout, for what matches"),
}
_CONDITIONS = ("host", "glob", "content_type")
# Needed before there is a response whose type could be asked.
_BEFORE_THE_RESPONSE = ("first_byte_timeout", "idle_timeout", "ignore_query", "signed_query")


def parse_rules(tables: Sequence[object], where: str) -> tuple[Rule, ...]:
    """The rules of a file in their order, presets in full. Raises ConfigError."""
    rules: list[Rule] = []
    for index, table in enumerate(tables, 1):
        rules += _parse(table, f"{where}rule {index}: ")
    return tuple(rules)


def _parse(table: object, where: str) -> tuple[Rule, ...]:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}must be written as [[rules]]")
    values: dict[str, object] = {}
    for key, raw in table.items():
        if key not in RULE_KEYS:
            raise ConfigError(f"{where}unknown key {key!r}{nearest(key, tuple(RULE_KEYS))}")
        values[key] = _value(key, raw, where)
    if "preset" in values:
        return _preset(values, where)
    if not any(key in values for key in _CONDITIONS):
        raise ConfigError(f"{where}needs host or glob, content_type or preset, to say what it is about")
    if "content_type" in values:
        for key in _BEFORE_THE_RESPONSE:
            if key in values:
                raise ConfigError(f"{where}{key} counts before a content type is known: use host or glob")
    rule = _rule(values)
    if rule.never_store and (rule.min_lifetime_s is not None or rule.pin):
        raise ConfigError(f"{where}never_store leaves nothing for min_lifetime or pin")
    shortest, longest = rule.min_lifetime_s, rule.max_lifetime_s
    if shortest is not None and longest is not None and shortest > longest:
        raise ConfigError(f"{where}min_lifetime is above max_lifetime")
    return (rule,)


def _value(key: str, raw: object, where: str) -> object:
    kind = RULE_KEYS[key].kind
    if kind is RuleKind.DURATION:
        try:
            return parse_duration(raw)
        except ValueError as error:
            raise ConfigError(f"{where}{key} = {raw!r} is not {error}") from None
    if kind is RuleKind.TEXTS and isinstance(raw, list) and all(isinstance(one, str) and one for one in raw):
        return tuple(raw)
    if kind is RuleKind.SWITCH and isinstance(raw, bool):
        return raw
    if kind is RuleKind.TEXT and isinstance(raw, str) and raw:
        return raw
    raise ConfigError(f"{where}{key} must be a {kind}")


def _preset(values: Mapping[str, object], where: str) -> tuple[Rule, ...]:
    name = str(values["preset"])
    if name not in PRESETS:
        known = tuple(PRESETS)
        raise ConfigError(f"{where}preset = {name!r}: must be one of {', '.join(known)}{nearest(name, known)}")
    others = [key for key in values if key not in ("preset", "host")]
    if others:
        raise ConfigError(f"{where}{others[0]} does not go with preset; only host does: write a rule before it")
    host = values.get("host")
    return preset_rules(name, None if host is None else str(host))


def _rule(values: Mapping[str, object]) -> Rule:
    def text(key: str) -> str | None:
        value = values.get(key)
        return value if isinstance(value, str) else None

    def seconds(key: str) -> float | None:
        value = values.get(key)
        return value if isinstance(value, float) else None

    def switch(key: str) -> bool | None:
        value = values.get(key)
        return value if isinstance(value, bool) else None

    def texts(key: str) -> tuple[str, ...] | None:
        value = values.get(key)
        return tuple(str(one) for one in value) if isinstance(value, tuple) else None

    return Rule(
        host=text("host"),
        glob=text("glob"),
        first_byte_timeout_s=seconds("first_byte_timeout"),
        idle_timeout_s=seconds("idle_timeout"),
        content_type=text("content_type"),
        unchanging=switch("unchanging") is True,
        min_lifetime_s=seconds("min_lifetime"),
        max_lifetime_s=seconds("max_lifetime"),
        ignore_reload=switch("ignore_reload"),
        never_store=switch("never_store"),
        pin=switch("pin"),
        ignore_query=texts("ignore_query"),
        signed_query=texts("signed_query"),
    )


def explain_rules(rules: Sequence[Rule]) -> list[str]:
    """A sentence for each rule, and one for all rules that come from the same preset."""
    lines: dict[str, None] = {}
    for rule in rules:
        lines[explain_rule(rule)] = None
    return list(lines)


def explain_rule(rule: Rule) -> str:
    """What a rule is about and does, in one sentence; that of its preset where it comes from one."""
    if rule.preset:
        preset = PRESETS[rule.preset]
        own = "" if rule.host is None or rule.host in preset.hosts else f", here for {rule.host}"
        return f"preset {rule.preset}{own}: {preset.summary}."
    about = [
        f"{what} {value}"
        for what, value in (
            ("host", rule.host),
            ("URLs like", rule.glob),
            ("content type", rule.content_type),
        )
        if value is not None
    ]
    if rule.unchanging:
        about.append("names with a version or a hash")
    return f"{', '.join(about) or 'everything'}: {'; '.join(_effects(rule)) or 'nothing changes'}."


def _effects(rule: Rule) -> list[str]:
    effects: list[str] = []
    for seconds, text in (
        (rule.min_lifetime_s, "fresh for at least {} unless the origin wants it validated"),
        (rule.max_lifetime_s, "fresh for at most {}"),
        (rule.first_byte_timeout_s, "the answer must begin within {}"),
        (rule.idle_timeout_s, "pauses of at most {}"),
    ):
        if seconds is not None:
            effects.append(text.format(format_duration(seconds)))
    for switch, yes, no in (
        (rule.ignore_reload, "reloads are answered from the cache", "reloads count"),
        (rule.never_store, "never stored", "may be stored"),
        (rule.pin, "never evicted for space", "evicted like others"),
    ):
        if switch is not None:
            effects.append(yes if switch else no)
    for names, text in (
        (rule.ignore_query, "{} in the query left out of key and request"),
        (rule.signed_query, "{} in the query sent, but left out of the key"),
    ):
        if names is not None:
            named = "everything" if "*" in names else ", ".join(names) or "nothing"
            effects.append(text.format(named))
    return effects
