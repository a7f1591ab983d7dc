"""Every setting: dotted name, type, default, unit, help. The README's table is made from this list."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from cacheproxy.caching.naming import TRACKING
from cacheproxy.caching.options import SetCookie
from cacheproxy.config.units import format_duration, format_size
from cacheproxy.policy.rules import Rule


class Kind(StrEnum):
    """What a setting's value is."""

    SIZE = "size"
    DURATION = "duration"
    NUMBER = "number"
    FRACTION = "fraction"
    SWITCH = "switch"
    TEXT = "text"
    CHOICE = "choice"
    TEXTS = "list of texts"
    NUMBERS = "list of numbers"


SettingValue = int | float | bool | str | tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `low` and `high` bound numbers, sizes and durations."""

    name: str
    kind: Kind
    default: SettingValue
    help: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 2**62

    def show(self, value: SettingValue) -> str:
        """The value as TOML."""
        if self.kind is Kind.SIZE:
            assert isinstance(value, int)
            text = format_size(value)
            return f'"{text}"' if "." not in text else str(value)
        if self.kind is Kind.DURATION:
            assert isinstance(value, int | float)
            return f'"{format_duration(value)}"'
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return "[" + ", ".join(_quoted(one) if isinstance(one, str) else str(one) for one in value) + "]"
        return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


_MIB = 1024 * 1024
_GIB = 1024 * _MIB

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "listen.addresses",
        Kind.TEXTS,
        ("127.0.0.1:3128",),
        "where clients connect, HOST:PORT each; https:// in front: over TLS",
    ),
    Setting(
        "listen.certificate",
        Kind.TEXT,
        "",
        "certificate and intermediates (PEM) for addresses with https://; taken up anew when the file changes",
    ),
    Setting("listen.key", Kind.TEXT, "", "its private key (PEM); empty: in the same file"),
    Setting(
        "server.name",
        Kind.TEXT,
        "",
        "pseudonym in Via; empty: cacheproxy- and random digits, new at each start",
    ),
    Setting(
        "server.header_timeout", Kind.DURATION, 10.0, "a request's head must be complete within this", low=0.1
    ),
    Setting(
        "server.idle_timeout", Kind.DURATION, 75.0, "an idle client connection is closed after this", low=0.1
    ),
    Setting("server.body_timeout", Kind.DURATION, 30.0, "a request's body may stand still this long", low=0.1),
    Setting(
        "server.body_rate", Kind.SIZE, 1024, "bytes per second that a request's body must reach after 60 s"
    ),
    Setting(
        "server.write_timeout",
        Kind.DURATION,
        300.0,
        "a client that reads nothing is cut off after this",
        low=0.1,
    ),
    Setting("server.tunnel_idle_timeout", Kind.DURATION, 900.0, "an idle tunnel is closed after this", low=0.1),
    Setting("server.drain_timeout", Kind.DURATION, 10.0, "running exchanges get this long at shutdown"),
    Setting(
        "server.hot_path",
        Kind.SWITCH,
        True,
        "answer plain GETs as they arrive, without a task: hits from prepared bytes, most misses",
    ),
    Setting(
        "server.parse_memo",
        Kind.SIZE,
        32 * _MIB,
        "memory for the parses of requests that come again",
        low=65536,
    ),
    Setting(
        "server.max_connections", Kind.NUMBER, 20_000, "client connections at once; more are closed", low=1
    ),
    Setting(
        "server.workers",
        Kind.NUMBER,
        1,
        "worker processes that share ports, cache and limits; 0: one for each processor",
        high=64,
    ),
    Setting(
        "cache.memory",
        Kind.SIZE,
        256 * _MIB,
        "memory for hot stored responses; objects above 1/64 stay on disk",
    ),
    Setting(
        "cache.disk_heads",
        Kind.SIZE,
        32 * _MIB,
        "memory for the heads of responses on disk, about 5 KiB each",
    ),
    Setting("cache.disk", Kind.SIZE, 10 * _GIB, "largest size of the cache file; 0 turns the disk tier off"),
    Setting("cache.max_object", Kind.SIZE, 0, "largest body that is stored; 0: a quarter of cache.disk"),
    Setting("cache.keep_free", Kind.SIZE, 256 * _MIB, "room left on the file system"),
    Setting("cache.write_queue", Kind.SIZE, 4 * _MIB, "bytes waiting for the disk before downloads are slowed"),
    Setting(
        "cache.disk_wait",
        Kind.DURATION,
        0.0005,
        "where many reads from disk take longer than this, they are left to a thread for a while; 0: every one is",
    ),
    Setting(
        "cache.set_cookie",
        Kind.CHOICE,
        str(SetCookie.STRIP),
        "a response with Set-Cookie is stored without it, replayed with it, or not stored",
        choices=tuple(str(choice) for choice in SetCookie),
    ),
    Setting(
        "cache.heuristic_fraction",
        Kind.FRACTION,
        0.1,
        "share of its age that an undated response stays fresh",
        high=1,
    ),
    Setting("cache.heuristic_max", Kind.DURATION, 7 * 86400.0, "longest guessed freshness lifetime"),
    Setting(
        "cache.name_lifetime",
        Kind.DURATION,
        30 * 86400.0,
        "the same for files whose name says that they never change (.deb, by-hash, wheels); 0: none",
        high=365 * 86400.0,
    ),
    Setting(
        "cache.drop_query",
        Kind.TEXTS,
        TRACKING,
        "query parameters that only track: left out of the key and of the request; empty: none",
    ),
    Setting(
        "cache.ask_codings",
        Kind.TEXTS,
        ("zstd", "br", "gzip"),
        "codings to ask origins for in clients' stead, decoded for those who cannot; empty: none",
        choices=("zstd", "br", "gzip"),
    ),
    Setting(
        "cache.decoded_max", Kind.SIZE, _GIB, "a decoded body is cut off beyond this: it may be a bomb", low=1
    ),
    Setting(
        "cache.stale_disconnected",
        Kind.DURATION,
        7 * 86400.0,
        "how stale a response may be served when its origin cannot be reached",
    ),
    Setting(
        "cache.finish_bytes", Kind.SIZE, _MIB, "an abandoned download is finished if at most this is missing"
    ),
    Setting("cache.finish_fraction", Kind.FRACTION, 0.5, "or if at least this share is here", high=1),
    Setting(
        "cache.finish_requests",
        Kind.NUMBER,
        2,
        "or if it was asked for at least this often, and last as a whole; 0: never for that",
    ),
    Setting(
        "cache.join_gap", Kind.SIZE, _MIB, "a range request joins a running download that is this close to it"
    ),
    Setting("cache.spool", Kind.SIZE, 64 * _MIB, "memory that all running downloads may hold together"),
    Setting(
        "access.clients", Kind.TEXTS, ("loopback", "private", "link-local"), "networks that may use the proxy"
    ),
    Setting(
        "access.deny_destinations",
        Kind.TEXTS,
        ("loopback", "link-local", "unspecified", "multicast"),
        "networks, hosts, host:port or words that may not be reached",
    ),
    Setting("access.allow_destinations", Kind.TEXTS, (), "exceptions to deny_destinations, which win"),
    Setting("access.connect_ports", Kind.NUMBERS, (443,), "ports that CONNECT may reach", low=1, high=65535),
    Setting("access.purge_clients", Kind.TEXTS, ("loopback",), "networks that may use the PURGE method"),
    Setting(
        "upstream.connect_timeout",
        Kind.DURATION,
        5.0,
        "resolving and connecting must end within this",
        low=0.01,
    ),
    Setting(
        "upstream.first_byte_timeout",
        Kind.DURATION,
        120.0,
        "an origin must begin its answer within this; also in [[rules]]",
        low=0.01,
    ),
    Setting(
        "upstream.idle_timeout",
        Kind.DURATION,
        60.0,
        "longest pause within an answer; also in [[rules]]",
        low=0.01,
    ),
    Setting("upstream.keep_alive", Kind.DURATION, 60.0, "an unused origin connection is closed after this"),
    Setting(
        "upstream.connections_per_origin",
        Kind.NUMBER,
        128,
        "open connections to one origin; further requests wait for one, up to 10 s",
        low=1,
    ),
    Setting("upstream.connections", Kind.NUMBER, 2048, "open connections to all origins", low=1),
    Setting("upstream.idle_per_origin", Kind.NUMBER, 128, "idle connections kept for one origin"),
    Setting("upstream.dns_ttl", Kind.DURATION, 60.0, "how long a resolved name is remembered"),
    Setting(
        "upstream.absolute_https",
        Kind.SWITCH,
        True,
        "fetch https:// in absolute-form over verified TLS, and cache it",
    ),
    Setting("upstream.ca_file", Kind.TEXT, "", "certificate authorities (PEM) for that; empty: the system's"),
    Setting("limits.target", Kind.SIZE, 12 * 1024, "longest request target (414 above)", low=64),
    Setting("limits.field", Kind.SIZE, 32 * 1024, "longest field of a request (431 above)", low=64),
    Setting("limits.head", Kind.SIZE, 64 * 1024, "longest head of a request (431 above)", low=256),
    Setting("limits.fields", Kind.NUMBER, 128, "most fields of a request (431 above)", low=1),
    Setting(
        "log.access",
        Kind.TEXT,
        "access.log",
        "access log in Squid's format, relative to the cache directory; empty: none",
    ),
    Setting("log.access_size", Kind.SIZE, 64 * _MIB, "the access log is rotated at this size"),
    Setting("log.access_keep", Kind.NUMBER, 3, "rotated access logs that are kept", high=1000),
    Setting("log.query", Kind.SWITCH, False, "log the query part of URLs, where secrets may be"),
    Setting(
        "log.level",
        Kind.CHOICE,
        "warning",
        "what goes to standard error",
        choices=("debug", "info", "warning", "error"),
    ),
)

BY_NAME = {setting.name: setting for setting in SETTINGS}
SECTIONS = tuple(dict.fromkeys(setting.name.partition(".")[0] for setting in SETTINGS))


class Config:
    """The settings in force. Frozen after loading; `explicit` names those that somebody set."""

    def __init__(
        self, values: dict[str, SettingValue], rules: tuple[Rule, ...], explicit: frozenset[str]
    ) -> None:
        self._values = values
        self.rules = rules
        self.explicit = explicit

    def with_values(self, values: dict[str, SettingValue]) -> Config:
        """The same but for some settings."""
        return Config({**self._values, **values}, self.rules, self.explicit)

    def _get(self, name: str) -> SettingValue:
        return self._values.get(name, BY_NAME[name].default)

    def number(self, name: str) -> int:
        """A size in bytes or a count."""
        value = self._get(name)
        assert isinstance(value, int)
        return value

    def seconds(self, name: str) -> float:
        """A duration or a fraction."""
        value = self._get(name)
        assert isinstance(value, int | float)
        return float(value)

    def switch(self, name: str) -> bool:
        """On or off."""
        return self._get(name) is True

    def text(self, name: str) -> str:
        """A text or a choice."""
        value = self._get(name)
        assert isinstance(value, str)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._get(name)
        assert isinstance(value, tuple)
        return tuple(str(one) for one in value)

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of numbers."""
        value = self._get(name)
        assert isinstance(value, tuple)
        return tuple(int(one) for one in value)

    def show(self, name: str) -> str:
        """The value of a setting as TOML."""
        return BY_NAME[name].show(self._get(name))
