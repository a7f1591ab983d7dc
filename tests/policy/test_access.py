"""Who may use the proxy, and where it may go."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import ConfigError
from cacheproxy.policy.access import (
    WORDS,
    AccessPolicy,
    is_wider_than_private,
    parse_client_networks,
    plain_address,
)

DENIED = ("loopback", "link-local", "unspecified", "multicast")


def policy(
    *,
    clients: tuple[str, ...] = ("loopback", "private"),
    deny: tuple[str, ...] = DENIED,
    allow: tuple[str, ...] = (),
    ports: tuple[int, ...] = (443,),
    purge: tuple[str, ...] = ("loopback",),
) -> AccessPolicy:
    return AccessPolicy(
        clients=clients,
        deny_destinations=deny,
        allow_destinations=allow,
        connect_ports=ports,
        purge_clients=purge,
    )


@pytest.mark.parametrize(
    ("how", "text", "plain"),
    [
        ("IPv4", "127.0.0.1", "127.0.0.1"),
        ("mapped", "::ffff:127.0.0.1", "127.0.0.1"),
        ("mapped in hex", "::ffff:7f00:1", "127.0.0.1"),
        ("mapped, written out", "0:0:0:0:0:FFFF:7F00:0001", "127.0.0.1"),
        ("compatible", "::127.0.0.1", "127.0.0.1"),
        ("NAT64", "64:ff9b::127.0.0.1", "127.0.0.1"),
        ("NAT64 in hex", "0064:ff9b:0::7f00:1", "127.0.0.1"),
        ("6to4", "2002:7f00:1::", "127.0.0.1"),
        ("6to4 with a host", "2002:7f00:1:2::3", "127.0.0.1"),
        ("mapped, with zone", "::ffff:127.0.0.1%eth0", "127.0.0.1"),
        ("loopback", "0:0:0:0:0:0:0:1", "::1"),
        ("loopback with zone", "::1%lo", "::1"),
        ("unspecified", "::", "::"),
        ("global", "2001:db8::1", "2001:db8::1"),
    ],
)
def test_plain_address(how: str, text: str, plain: str) -> None:
    assert plain_address(text) == ip_address(plain)


@pytest.mark.parametrize(
    "text", ["", "h", "127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "127.0.0.1:80", "[::1]"]
)
def test_what_is_no_address(text: str) -> None:
    """Decimal, octal, hex and short forms are names: the resolver's answer is judged."""
    with pytest.raises(ValueError, match="address"):
        plain_address(text)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::ffff:0.0.0.0",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
    ],
)
def test_refused_by_default(address: str) -> None:
    """Loopback, metadata services, unspecified, multicast: in every spelling, whatever name led there."""
    for port in (80, 443, 3128):
        assert policy().refuses_address("innocent.example", address, port)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "10.1.2.3", "192.168.1.1", "2001:db8::1", "fd00::1", "::ffff:10.1.2.3"]
)
def test_allowed_by_default(address: str) -> None:
    assert policy().refuses_address("h", address, 80) is None
    assert policy(deny=()).refuses_address("h", "127.0.0.1", 80) is None


@pytest.mark.parametrize(
    ("rule", "host", "address", "port", "is_hit"),
    [
        ("10.0.0.0/8", "h", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "h", "11.1.2.3", 80, False),
        ("10.1.2.3/8", "h", "10.9.9.9", 80, True),
        ("10.0.0.1", "h", "::ffff:10.0.0.1", 80, True),
        ("10.0.0.1:80", "h", "10.0.0.1", 80, True),
        ("10.0.0.1:80", "h", "10.0.0.1", 81, False),
        ("10.0.0.0/8:80", "h", "10.0.0.1", 80, True),
        ("2001:db8::/32", "h", "2001:db8::5", 80, True),
        ("[2001:db8::5]", "h", "2001:db8::5", 80, True),
        ("[2001:db8::5]:80", "h", "2001:db8::5", 80, True),
        ("[2001:db8::5]:80", "h", "2001:db8::5", 81, False),
        ("private", "h", "192.168.0.1", 80, True),
        ("all", "h", "2001:db8::1", 80, True),
        ("::ffff:10.0.0.1", "h", "10.0.0.1", 80, True),
        ("evil.example", "evil.example", "8.8.8.8", 80, True),
        ("EVIL.example.", "evil.example", "8.8.8.8", 80, True),
        ("evil.example", "evil.example.", "8.8.8.8", 80, True),
        ("evil.example", "not-evil.example", "8.8.8.8", 80, False),
        ("evil.example", "www.evil.example", "8.8.8.8", 80, False),
        ("*.evil.example", "www.evil.example", "8.8.8.8", 80, True),
        ("*.evil.example", "evil.example", "8.8.8.8", 80, False),
        (".evil.example", "www.evil.example", "8.8.8.8", 80, True),
        (".evil.example", "evil.example", "8.8.8.8", 80, True),
        (".evil.example", "devil.example", "8.8.8.8", 80, False),
        ("evil.example:8080", "evil.example", "8.8.8.8", 8080, True),
        ("evil.example:8080", "evil.example", "8.8.8.8", 80, False),
        ("*:8080", "h", "8.8.8.8", 8080, True),
        ("*:8080", "h", "8.8.8.8", 80, False),
    ],
)
def test_one_rule_denies_and_the_same_rule_excepts(
    rule: str, host: str, address: str, port: int, is_hit: bool
) -> None:
    deny = policy(deny=(rule,))
    refused = deny.refuses_host(host, port) or deny.refuses_address(host, address, port)
    assert bool(refused) == is_hit
    both = policy(deny=("all", "*"), allow=(rule,))
    assert (both.refuses_address(host, address, port) is None) == is_hit


@pytest.mark.parametrize(
    ("rule", "address"), [("2002::/16", "2002:7f00:1::1"), ("64:ff9b::/96", "64:ff9b::127.0.0.1")]
)
def test_embedding_networks_deny_but_do_not_except(rule: str, address: str) -> None:
    """An exception must name the address that is really reached."""
    assert policy(deny=(rule,)).refuses_address("h", address, 80)
    assert policy(deny=("loopback",), allow=(rule,)).refuses_address("h", address, 80)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "x.localhost", "127.0.0.1", "::1", "::ffff:7f00:1", "0.0.0.0"]
)
def test_localhost_and_literals_are_refused_before_resolving(host: str) -> None:
    """RFC 6761 §6.3."""
    assert policy().refuses_host(host, 80)
    assert policy(deny=()).refuses_host(host, 80) is None
    assert policy(allow=("all", "localhost", "*.localhost")).refuses_host(host, 80) is None


@pytest.mark.parametrize(
    "host", ["example.com", "notlocalhost", "localhost.example", "10.0.0.1", "2130706433", "127.1"]
)
def test_other_names_wait_for_the_resolver(host: str) -> None:
    assert policy().refuses_host(host, 80) is None


def test_exceptions_win() -> None:
    rules = policy(deny=("loopback", "*.local"), allow=("127.0.0.1:8490", "printer.local", "build.local:80"))
    assert rules.refuses_address("h", "127.0.0.1", 8490) is None
    assert rules.refuses_address("h", "::ffff:127.0.0.1", 8490) is None
    assert rules.refuses_address("h", "127.0.0.1", 8491)
    assert rules.refuses_address("h", "127.0.0.2", 8490)
    assert rules.refuses_host("printer.local", 80) is None
    assert rules.refuses_address("printer.local", "127.0.0.1", 80) is None
    assert rules.refuses_host("build.local", 80) is None
    assert rules.refuses_host("build.local", 81)
    assert rules.refuses_host("other.local", 80)


@pytest.mark.parametrize(
    "rule", ["", "h:0", "h:65536", "h:x", "h:²", "a b", "u@h", "h/path", "::1::2", "10.0.0.0/33", "h\\a"]
)
@pytest.mark.parametrize("setting", ["deny", "allow"])
def test_a_broken_rule_names_its_setting(rule: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"access.{setting}_destinations"):
        policy(**{setting: (rule,)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("client", "is_refused"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("192.168.3.4", False),
        ("fd12::1", False),
        ("8.8.8.8", True),
        ("2001:db8::1", True),
        ("", True),
        ("unix", True),
        ("2002:7f00:1::1", True),
        ("64:ff9b::127.0.0.1", True),
    ],
)
def test_clients(client: str, is_refused: bool) -> None:
    """An address *of* a client is what it is: only the mapped form is IPv4 (dual-stack sockets write it so)."""
    assert bool(policy().refuses_client(client)) == is_refused


def test_purge_has_its_own_networks() -> None:
    assert policy().refuses_purge("127.0.0.1") is None
    assert policy().refuses_purge("10.0.0.1") == "10.0.0.1 is not in access.purge_clients"
    assert policy(clients=()).refuses_client("127.0.0.1") == "127.0.0.1 is not in access.clients"


def test_connect_ports() -> None:
    """RFC 9110 §9.3.6."""
    assert policy().refuses_connect_port(443) is None
    assert all(policy().refuses_connect_port(port) for port in (0, 22, 25, 80, 444, 65535))


@pytest.mark.parametrize(
    ("networks", "is_wider"),
    [
        ((), False),
        (("loopback", "private", "link-local"), False),
        (("10.1.0.0/16", "fd00::/8", "100.64.0.0/10"), False),
        (("all",), True),
        (("0.0.0.0/0",), True),
        (("::/0",), True),
        (("10.0.0.0/7",), True),
        (("8.8.8.8",), True),
        (("private", "2001:db8::/32"), True),
        (("172.16.0.0/11",), True),
    ],
)
def test_wider_than_private(networks: tuple[str, ...], is_wider: bool) -> None:
    assert is_wider_than_private(parse_client_networks(networks, "x")) == is_wider


@pytest.mark.parametrize("text", ["", "h", "10.0.0.0/33", "10.0.0.1:80", "Private"])
def test_a_broken_network_names_its_setting(text: str) -> None:
    with pytest.raises(ConfigError, match=r"access\.clients"):
        parse_client_networks((text,), "access.clients")


@given(st.ip_addresses(v=4))
def test_every_spelling_of_an_ipv4_address_gets_the_same_answer(address: object) -> None:
    number = int(address)  # type: ignore[call-overload]
    high, low = number >> 16, number & 0xFFFF
    spellings = [f"::ffff:{address}", f"64:ff9b::{address}", f"2002:{high:x}:{low:x}::1"]
    answers = {policy().refuses_address("h", text, 80) for text in [str(address), *spellings]}
    assert len(answers) == 1


@given(st.text() | st.from_regex(r"\A[a-f0-9.:\[\]/*%]{1,20}\Z"))
def test_any_rule_compiles_or_is_a_config_error(text: str) -> None:
    try:
        compiled = policy(deny=(text,), allow=(text,))
    except ConfigError:
        return
    assert compiled.refuses_host("h", 80) is None


@pytest.mark.parametrize("word", sorted(set(WORDS) - {"all"}))
def test_words_stand_for_networks(word: str) -> None:
    address = WORDS[word][0].partition("/")[0]
    assert policy(deny=(word,)).refuses_address("h", address, 80)
    assert policy(clients=(word,)).refuses_client(address) is None
