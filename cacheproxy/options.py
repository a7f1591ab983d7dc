"""What the settings say to each part of the proxy."""

from __future__ import annotations

from pathlib import Path

from cacheproxy.caching.options import CachingOptions, SetCookie
from cacheproxy.config.load import parse_listen
from cacheproxy.config.model import Config
from cacheproxy.errors import StartError
from cacheproxy.http.head import HeadLimits
from cacheproxy.policy.rules import overrides_from
from cacheproxy.server.listener import ListeningSockets
from cacheproxy.server.options import ConnectionOptions
from cacheproxy.server.tls import Certificate
from cacheproxy.sockets import room_for_clients
from cacheproxy.store.space import DiskOptions


def max_object(config: Config) -> int:
    """The largest body that is stored."""
    return config.number("cache.max_object") or config.number("cache.disk") // 4 or 2**62


def disk_options(config: Config) -> DiskOptions:
    """How the disk is used, where it is. Raises StartError."""
    disk_bytes = config.number("cache.disk")
    if disk_bytes < 4 * 1024 * 1024:
        raise StartError("cache.disk is too small: at least 4MiB, or 0 for none")
    return DiskOptions(
        disk_bytes,
        config.number("cache.keep_free"),
        config.number("cache.write_queue"),
        config.seconds("cache.disk_wait"),
    )


def caching_options(config: Config) -> CachingOptions:
    """What RFC 9111 leaves to the operator."""
    return CachingOptions(
        set_cookie=SetCookie(config.text("cache.set_cookie")),
        heuristic_fraction=config.seconds("cache.heuristic_fraction"),
        heuristic_max_s=config.seconds("cache.heuristic_max"),
        name_lifetime_s=config.seconds("cache.name_lifetime"),
        drop_query=config.texts("cache.drop_query"),
        overrides=overrides_from(config.rules),
        stale_disconnected_s=config.seconds("cache.stale_disconnected"),
    )


def connection_options(config: Config) -> ConnectionOptions:
    """What a client connection is held to."""
    return ConnectionOptions(
        head_s=config.seconds("server.header_timeout"),
        idle_s=config.seconds("server.idle_timeout"),
        body_s=config.seconds("server.body_timeout"),
        body_rate=config.number("server.body_rate"),
        write_s=config.seconds("server.write_timeout"),
        tunnel_idle_s=config.seconds("server.tunnel_idle_timeout"),
        max_connections=min(config.number("server.max_connections"), room_for_clients()),
        limits=HeadLimits(
            config.number("limits.target"),
            config.number("limits.field"),
            config.number("limits.head"),
            config.number("limits.fields"),
        ),
    )


def certificate(config: Config) -> Certificate | None:
    """For the addresses with TLS, if there are any. Raises StartError."""
    name, key = config.text("listen.certificate"), config.text("listen.key")
    return Certificate(Path(name), Path(key) if key else None) if name else None


def bind_all(config: Config) -> ListeningSockets:
    """Listening sockets for every address of `listen.addresses`. Raises StartError."""
    return ListeningSockets.bind(parse_listen(text) for text in config.texts("listen.addresses"))
