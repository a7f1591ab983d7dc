"""TOML and -o into settings; what is wrong is named with what is meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.config.load import access_policy, load, parse_listen
from cacheproxy.config.model import BY_NAME, Config
from cacheproxy.errors import ConfigError
from cacheproxy.policy.rules import Rule

FromText = Callable[..., Config]


@pytest.fixture
def from_text(tmp_path: Path) -> FromText:
    """Loads a file of the given text, and options."""

    def make(text: str, *options: str) -> Config:
        path = tmp_path / "c.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, options)

    return make


def test_nothing_set_means_the_defaults() -> None:
    config = load(None, [])
    assert config.number("cache.memory") == 256 * 2**20
    assert config.texts("listen.addresses") == ("127.0.0.1:3128",)
    assert config.rules == ()
    assert config.explicit == frozenset()


def test_a_file_and_options_that_win(from_text: FromText) -> None:
    text = """
        [cache]
        memory = "1GiB"
        disk = 1000
        set_cookie = "bypass"
        [upstream]
        absolute_https = false
        connect_timeout = 2
        [[rules]]
        host = "*.example"
        idle_timeout = "5m"
        [[rules]]
        glob = "http://h/*"
        first_byte_timeout = 1.5
    """
    config = from_text(text, "cache.disk=2KiB", "cache.disk=3KiB")
    assert (config.number("cache.memory"), config.number("cache.disk")) == (2**30, 3072)
    assert config.text("cache.set_cookie") == "bypass"
    assert not config.switch("upstream.absolute_https")
    assert config.seconds("upstream.connect_timeout") == 2
    assert config.rules == (
        Rule(host="*.example", idle_timeout_s=300),
        Rule(glob="http://h/*", first_byte_timeout_s=1.5),
    )
    assert "cache.disk" in config.explicit


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("cache.set_cookie=replay", '"replay"'),
        ('cache.set_cookie="replay"', '"replay"'),
        ("cache.memory=1GiB", '"1GiB"'),
        ('cache.memory="1GiB"', '"1GiB"'),
        ("cache.memory=1024", '"1KiB"'),
        ("cache.heuristic_max=10m", '"10m"'),
        ("cache.heuristic_max=90", '"90s"'),
        ("cache.heuristic_fraction=0", "0.0"),
        ("cache.heuristic_fraction=0.25", "0.25"),
        (" cache.disk = 0 ", '"0B"'),
        ("access.deny_destinations=[]", "[]"),
        ('access.allow_destinations=["127.0.0.1:8490"]', '["127.0.0.1:8490"]'),
        ("access.connect_ports=[443, 8443]", "[443, 8443]"),
        ("log.query=true", "true"),
        ("log.access=", '""'),
        ("log.access=/var/log/a.log", '"/var/log/a.log"'),
        ("log.access=a=b", '"a=b"'),
        ("server.max_connections=10", "10"),
    ],
)
def test_options(option: str, shown: str) -> None:
    """design.md §4: read as TOML; where that fails a bare word may do."""
    name = option.partition("=")[0].strip()
    assert load(None, [option]).show(name) == shown


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("cache.memory", "must be KEY=VALUE"),
        ("cache.memroy=1", "unknown setting 'cache.memroy'; did you mean 'cache.memory'?"),
        ("memory=1", "did you mean 'cache.memory'?"),
        ("cach.disk=1", "did you mean 'cache.disk'?"),
        ("access.deny_destination=[]", "did you mean 'access.deny_destinations'?"),
        ("zzz=1", "unknown setting 'zzz'"),
        ("cache.set_cookie=reply", "one of strip, replay, bypass; did you mean 'replay'?"),
        ("cache.set_cookie=1", "must be one of strip"),
        ("cache.memory=lots", "cache.memory = 'lots': must be a size such as"),
        ("cache.memory=-1", "must be a size"),
        ("cache.memory=true", "must be a size"),
        ("cache.heuristic_max=soon", "must be a duration such as"),
        ("cache.heuristic_max=inf", "must be between"),
        ("cache.heuristic_max=nan", "must be a duration"),
        ("cache.heuristic_fraction=1.5", "must be between 0 and 1"),
        ("cache.heuristic_fraction=nan", "must be between 0 and 1"),
        ("cache.heuristic_fraction=half", "is not valid TOML"),
        ("server.max_connections=0", "must be between 1 and"),
        ("server.max_connections=1.5", "must be a number"),
        ("server.max_connections=many", "is not valid TOML (number is wanted)"),
        ("server.header_timeout=0", "must be between 0.1"),
        ("log.query=yes", "is not valid TOML (switch is wanted)"),
        ("log.query=1", "must be a switch"),
        ("log.level=loud", "must be one of debug, info, warning, error"),
        ("access.clients=private", "is not valid TOML"),
        ('access.clients="private"', "must be a list of texts"),
        ("access.clients=[1]", "must be a list of texts"),
        ('access.clients=["Private"]', "is neither a network nor one of"),
        ('access.deny_destinations=["a b"]', "access.deny_destinations: 'a b'"),
        ("access.connect_ports=[0]", "must be numbers between 1 and 65535"),
        ("access.connect_ports=[65536]", "must be numbers between 1 and 65535"),
        ("access.connect_ports=[true]", "must be a list of numbers"),
        ("access.connect_ports=443", "must be a list of numbers"),
        ("listen.addresses=[]", "would not be reachable"),
        ('listen.addresses=["3128"]', "is not HOST:PORT"),
        ('listen.addresses=["127.0.0.1:1", "https://127.0.0.1:2"]', "takes a certificate"),
        ("server.name=a b", "must be letters"),
        ("server.name=a\r\nX: y", "must be letters"),
        ("server.name=名", "must be letters"),
        ("server.name=é", "must be letters"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(option: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [option])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cache", "not valid TOML"),
        ("[cach]", "unknown section [cach]; did you mean 'cache'?"),
        ("cache = 1", "cache must be a section"),
        ("[cache]\nmemroy = 1", "unknown setting 'cache.memroy'; did you mean 'cache.memory'?"),
        ("[cache]\nmemory = 'x'", "cache.memory = 'x': must be a size"),
        ("[cache.memory]\nx = 1", "cache.memory = {'x': 1}: must be a size"),
        ("rules = 1", "must be written as [[rules]]"),
        ("rules = [1]", "must be written as [[rules]]"),
        ("[[rules]]\nhots = 'h'", "rule 1: unknown key 'hots'; did you mean 'host'?"),
        ("[[rules]]\nhost = 'h'\n[[rules]]\nidle_timeout = 1", "rule 2: needs host or glob"),
        ("[[rules]]\nhost = 1", "host must be a text"),
        ("[[rules]]\nglob = ['x']", "glob must be a text"),
        ("[[rules]]\nhost = 'h'\nidle_timeout = 'x'", "rule 1: idle_timeout = 'x' is not a duration"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_allowed(from_text: FromText, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_text(text)
    assert "c.toml: " in str(caught.value)
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "missing.toml", [])
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path / "bytes.toml", [])


@pytest.mark.parametrize("clients", ["all", "0.0.0.0/0", "::/0", "8.8.8.0/24", "10.0.0.0/7", "2001:db8::/32"])
def test_an_open_proxy_is_refused(clients: str) -> None:
    """reliability.md §7.13."""
    with pytest.raises(ConfigError, match="open proxy"):
        load(None, [f'access.clients=["private", "{clients}"]'])


@pytest.mark.parametrize(
    "address", ["0.0.0.0:3128", ":3128", "[::]:3128", "192.168.1.1:3128", "proxy.lan:3128"]
)
def test_serving_the_network_needs_a_word_on_who(address: str) -> None:
    """reliability.md §7.13."""
    listen = f'listen.addresses=["127.0.0.1:3128", "{address}"]'
    with pytest.raises(ConfigError, match=r"access\.clients"):
        load(None, [listen])
    assert load(None, [listen, 'access.clients=["private"]'])


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_none(address: str) -> None:
    assert load(None, [f'listen.addresses=["{address}"]'])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:3128", ("127.0.0.1", 3128, False)),
        ("[::1]:3128", ("::1", 3128, False)),
        (":3128", ("", 3128, False)),
        ("localhost:0", ("localhost", 0, False)),
        ("http://localhost:0", ("localhost", 0, False)),
        ("https://[::1]:3129", ("::1", 3129, True)),
        ("HTTPS://:3129/", ("", 3129, True)),
    ],
)
def test_listen(text: str, expected: tuple[str, int, bool]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    "text", ["", "3128", "h", "h:", "h:x", "h:-1", "h:65536", "h:²", "::1:3128", "[::1:3128", "h:" + "9" * 5000,
     "://h:1", "ftp://h:1", "https://h", "https://", "h:1/", "https://h:1//", "a://https://h:1"],
)  # fmt: skip
def test_what_is_no_address_to_listen_on(text: str) -> None:
    with pytest.raises(ConfigError, match="is not HOST:PORT"):
        parse_listen(text)


def test_the_access_policy_is_made_of_the_settings() -> None:
    policy = access_policy(
        load(None, ['access.allow_destinations=["127.0.0.1:8490"]', "access.connect_ports=[8443]"])
    )
    assert policy.refuses_address("h", "127.0.0.1", 8490) is None
    assert policy.refuses_address("h", "127.0.0.1", 80)
    assert policy.refuses_connect_port(443)
    assert policy.refuses_client("10.0.0.1") is None
    assert policy.refuses_purge("10.0.0.1")


@given(st.sampled_from(sorted(BY_NAME)), st.text() | st.text("0123456789[]\"'.,:KMGTiBhms -"))
def test_any_option_is_a_setting_or_a_config_error(name: str, text: str) -> None:
    try:
        config = load(None, [f"{name}={text}"])
    except ConfigError:
        return
    assert config.show(name)


@pytest.mark.parametrize("text", ["[]", '["gzip"]', '["gzip", "zstd", "br"]'])
def test_codings_that_can_be_asked_for(text: str) -> None:
    assert load(None, [f"cache.ask_codings={text}"]).texts("cache.ask_codings") == tuple(json.loads(text))


@pytest.mark.parametrize("text", ['["gzp"]', '["deflate"]', '"gzip"', "[1]"])
def test_other_codings_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"cache\.ask_codings"):
        load(None, [f"cache.ask_codings={text}"])
