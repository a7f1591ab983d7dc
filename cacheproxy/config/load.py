"""TOML and -o into a Config; what is wrong is named with file, key, value, what is allowed, the nearest name."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cacheproxy.config.model import BY_NAME, SECTIONS, Config, Kind, Setting, SettingValue
from cacheproxy.config.nearest import nearest
from cacheproxy.config.rules import parse_rules
from cacheproxy.config.units import parse_duration, parse_size
from cacheproxy.errors import ConfigError
from cacheproxy.policy.access import AccessPolicy, is_wider_than_private
from cacheproxy.policy.rules import Rule


def load(path: Path | None, options: Sequence[str]) -> Config:
    """The settings of a file and of `-o KEY=VALUE` options, the latter winning. Raises ConfigError."""
    values: dict[str, SettingValue] = {}
    rules: tuple[Rule, ...] = ()
    if path is not None:
        values, rules = _read_file(path)
    for option in options:
        name, value = _read_option(option)
        values[name] = value
    config = Config(values, rules, frozenset(values))
    _check_together(config)
    return config


def access_policy(config: Config) -> AccessPolicy:
    """The compiled access rules. Raises ConfigError."""
    return AccessPolicy(
        clients=config.texts("access.clients"),
        deny_destinations=config.texts("access.deny_destinations"),
        allow_destinations=config.texts("access.allow_destinations"),
        connect_ports=config.numbers("access.connect_ports"),
        purge_clients=config.texts("access.purge_clients"),
    )


class ListenAddress(NamedTuple):
    """Where to listen; an empty host is every address."""

    host: str
    port: int
    is_tls: bool = False


def parse_listen(text: str) -> ListenAddress:
    """HOST:PORT, [IPv6]:PORT or :PORT, behind http:// or https:// or neither. Raises ConfigError."""
    scheme, separator, rest = text.rpartition("://")
    host, colon, port = (rest.removesuffix("/") if separator else rest).rpartition(":")
    if (
        not colon
        or (separator and scheme.lower() not in ("http", "https"))
        or not (port.isascii() and port.isdigit())
        or len(port) > 5
        or int(port) > 65535
        or (":" in host and not (host.startswith("[") and host.endswith("]")))
    ):
        raise ConfigError(
            f"listen: {text!r} is not HOST:PORT (for example 127.0.0.1:3128, [::1]:3128 or, with"
            " TLS, https://127.0.0.1:3129)"
        )
    return ListenAddress(host.strip("[]"), int(port), scheme.lower() == "https")


def _read_file(path: Path) -> tuple[dict[str, SettingValue], tuple[Rule, ...]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    values: dict[str, SettingValue] = {}
    rules: tuple[Rule, ...] = ()
    for section, content in document.items():
        if section == "rules":
            if not isinstance(content, list):
                raise ConfigError(f"{path}: rules must be written as [[rules]]")
            rules = parse_rules(content, f"{path}: ")
            continue
        if section not in SECTIONS:
            raise ConfigError(f"{path}: unknown section [{section}]{nearest(section, (*SECTIONS, 'rules'))}")
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: {section} must be a section: [{section}]")
        for key, raw in content.items():
            name = f"{section}.{key}"
            values[name] = _convert(_setting(name, f"{path}: "), raw, f"{path}: ")
    return values, rules


def _setting(name: str, where: str) -> Setting:
    setting = BY_NAME.get(name)
    if setting is None:
        raise ConfigError(f"{where}unknown setting {name!r}{nearest(name, tuple(BY_NAME))}")
    return setting


def _read_option(option: str) -> tuple[str, SettingValue]:
    name, equals, text = option.partition("=")
    name = name.strip()
    if not equals:
        raise ConfigError(f"-o {option}: must be KEY=VALUE")
    setting = _setting(name, "-o: ")
    try:
        raw: object = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if setting.kind not in (Kind.TEXT, Kind.CHOICE, Kind.SIZE, Kind.DURATION):
            raise ConfigError(f"-o {name}: {text!r} is not valid TOML ({setting.kind} is wanted)") from None
        raw = text.strip()
    return name, _convert(setting, raw, "-o ")


def _convert(setting: Setting, raw: object, where: str) -> SettingValue:
    try:
        value = _by_kind(setting, raw)
    except ValueError as error:
        raise ConfigError(f"{where}{setting.name} = {raw!r}: must be {error}") from None
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and not setting.low <= value <= setting.high
    ):
        raise ConfigError(
            f"{where}{setting.name} = {raw!r}: must be between {setting.low:g} and {setting.high:g}"
        )
    return value


def _by_kind(setting: Setting, raw: object) -> SettingValue:
    kind = setting.kind
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    if kind is Kind.SIZE:
        return parse_size(raw)
    if kind is Kind.DURATION:
        return parse_duration(raw)
    if kind is Kind.NUMBER and isinstance(raw, int) and is_number:
        return raw
    if kind is Kind.FRACTION and isinstance(raw, int | float) and is_number:
        return float(raw)
    if kind is Kind.SWITCH and isinstance(raw, bool):
        return raw
    if kind is Kind.TEXT and isinstance(raw, str):
        return raw
    if kind is Kind.CHOICE:
        if raw in setting.choices:
            return str(raw)
        raise ValueError(f"one of {', '.join(setting.choices)}{nearest(str(raw), setting.choices)}")
    if kind is Kind.TEXTS and isinstance(raw, list) and all(isinstance(one, str) for one in raw):
        wrong = next((one for one in raw if setting.choices and one not in setting.choices), None)
        if wrong is not None:
            raise ValueError(f"some of {', '.join(setting.choices)}{nearest(wrong, setting.choices)}")
        return tuple(raw)
    if kind is Kind.NUMBERS and isinstance(raw, list) and all(type(one) is int for one in raw):
        for one in raw:
            if not setting.low <= one <= setting.high:
                raise ValueError(f"numbers between {setting.low:g} and {setting.high:g}")
        return tuple(raw)
    raise ValueError(f"a {kind}")


def _check_together(config: Config) -> None:
    policy = access_policy(config)
    texts = config.texts("listen.addresses")
    addresses = [parse_listen(text) for text in texts]
    if not addresses:
        raise ConfigError("listen.addresses is empty: the proxy would not be reachable")
    secure = next((text for text, one in zip(texts, addresses, strict=True) if one.is_tls), None)
    if secure is not None and not config.text("listen.certificate"):
        raise ConfigError(f"listen: {secure!r} takes a certificate: name its file with listen.certificate")
    if is_wider_than_private(policy.client_networks):
        raise ConfigError(
            "access.clients reaches beyond private networks without authentication: that would be an open proxy."
            " Name the networks of your clients"
        )
    beyond = [
        host for host, _, _ in addresses if host not in ("localhost", "::1") and not host.startswith("127.")
    ]
    if beyond and "access.clients" not in config.explicit:
        raise ConfigError(
            f"listening on {beyond[0] or 'all addresses'} serves the network: say who may use the proxy with"
            " access.clients, for example -o 'access.clients=[\"private\"]'"
        )
    name = config.text("server.name")
    if name and not all(char.isascii() and (char.isalnum() or char in "-_.") for char in name):
        raise ConfigError(f"server.name = {name!r}: must be letters, digits, '-', '_' or '.'")
