"""`[[rules]]`: read, refused with what is meant, and explained in a sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cacheproxy.cli import configure  # noqa: F401 - importing it registers the command
from cacheproxy.cli.main import cli
from cacheproxy.config.load import load
from cacheproxy.config.rules import RULE_KEYS, explain_rule, explain_rules
from cacheproxy.errors import ConfigError
from cacheproxy.policy.presets import PRESETS, preset_rules
from cacheproxy.policy.rules import Rule


def read(tmp_path: Path, text: str) -> tuple[Rule, ...]:
    """The rules of a file with this text."""
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, ()).rules


def test_every_key(tmp_path: Path) -> None:
    text = """
        [[rules]]
        host = ".example.com"
        glob = "*.iso"
        unchanging = true
        min_lifetime = "1h"
        max_lifetime = 86400
        ignore_reload = true
        pin = true
        ignore_query = ["sid", "t_*"]
        signed_query = ["sig"]
        first_byte_timeout = "10m"
        idle_timeout = 5
        [[rules]]
        content_type = "video/*"
        never_store = true
    """
    assert read(tmp_path, text) == (
        Rule(
            host=".example.com",
            glob="*.iso",
            unchanging=True,
            min_lifetime_s=3600,
            max_lifetime_s=86400,
            ignore_reload=True,
            pin=True,
            ignore_query=("sid", "t_*"),
            signed_query=("sig",),
            first_byte_timeout_s=600,
            idle_timeout_s=5,
        ),
        Rule(content_type="video/*", never_store=True),
    )
    assert set(RULE_KEYS) - {"preset", "content_type", "never_store"} == {
        line.split(" = ")[0].strip() for line in text.split("[[rules]]")[1].splitlines() if " = " in line
    }


def test_presets_stand_where_they_are_written(tmp_path: Path) -> None:
    text = """
        [[rules]]
        host = "a"
        pin = true
        [[rules]]
        preset = "steam"
        [[rules]]
        preset = "debian"
        host = "mirror.lan"
    """
    rules = read(tmp_path, text)
    assert rules == (Rule(host="a", pin=True), *preset_rules("steam"), *preset_rules("debian", "mirror.lan"))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_can_be_named(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, f"[[rules]]\npreset = '{name}'") == preset_rules(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset = 'debain'", "preset = 'debain': must be one of debian, ubuntu,"),
        ("preset = 'debain'", "did you mean 'debian'?"),
        ("preset = 'windows'", "did you mean 'windows-update'?"),
        ("preset = 1", "preset must be a text"),
        ("preset = 'debian'\npin = true", "pin does not go with preset"),
        ("preset = 'debian'\nhost = ''", "host must be a text"),
        ("host = 'h'\nmin_lifetme = '1h'", "unknown key 'min_lifetme'; did you mean 'min_lifetime'?"),
        ("host = 'h'\nignore_reloads = true", "did you mean 'ignore_reload'?"),
        ("host = 'h'\nmin_lifetime = 'x'", "min_lifetime = 'x' is not a duration"),
        ("host = 'h'\npin = 'yes'", "pin must be a switch"),
        ("host = 'h'\npin = 1", "pin must be a switch"),
        ("host = 'h'\nignore_query = 'sid'", "ignore_query must be a list of texts"),
        ("host = 'h'\nignore_query = ['']", "ignore_query must be a list of texts"),
        ("host = 'h'\nsigned_query = [1]", "signed_query must be a list of texts"),
        ("content_type = 5", "content_type must be a text"),
        ("content_type = 'a/b'\nignore_query = ['a']", "ignore_query counts before a content type is known"),
        ("content_type = 'a/b'\nidle_timeout = 5", "idle_timeout counts before a content type is known"),
        ("unchanging = true\npin = true", "needs host or glob, content_type or preset"),
        ("host = 'h'\nmin_lifetime = 9\nmax_lifetime = 5", "min_lifetime is above max_lifetime"),
        ("host = 'h'\nnever_store = true\npin = true", "never_store leaves nothing for"),
        ("host = 'h'\nnever_store = true\nmin_lifetime = 5", "never_store leaves nothing for"),
    ],
)
def test_a_wrong_rule_is_named_with_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"[[rules]]\nhost = 'first'\n[[rules]]\n{text}")
    assert "c.toml: rule 2: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (Rule(host="h"), "host h: nothing changes."),
        (Rule(host=".h", pin=True), "host .h: never evicted for space."),
        (Rule(glob="*.iso", never_store=True), "URLs like *.iso: never stored."),
        (
            Rule(host="h", unchanging=True, min_lifetime_s=86400, max_lifetime_s=604800, ignore_reload=True),
            (
                "host h, names with a version or a hash: fresh for at least 1d unless the origin wants it validated;"
                " fresh for at most 1w; reloads are answered from the cache."
            ),
        ),
        (Rule(content_type="video/*", max_lifetime_s=60), "content type video/*: fresh for at most 1m."),
        (
            Rule(host="h", ignore_query=("a", "b"), signed_query=("*",)),
            (
                "host h: a, b in the query left out of key and request; everything in the query sent, but left out of"
                " the key."
            ),
        ),
        (
            Rule(host="h", first_byte_timeout_s=600, idle_timeout_s=5),
            "host h: the answer must begin within 10m; pauses of at most 5s.",
        ),
        (Rule(host="h", ignore_reload=False, pin=False), "host h: reloads count; evicted like others."),
    ],
)
def test_explained(rule: Rule, sentence: str) -> None:
    assert explain_rule(rule) == sentence


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_one_sentence(name: str) -> None:
    assert explain_rules(preset_rules(name)) == [f"preset {name}: {PRESETS[name].summary}."]
    own = explain_rules(preset_rules(name, "mirror.lan"))
    assert own == [f"preset {name}, here for mirror.lan: {PRESETS[name].summary}."]


def test_config_check_explains(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[[rules]]\npreset = 'debian'\n[[rules]]\nhost = 'h'\npin = true\n", encoding="utf-8")
    result = CliRunner().invoke(cli, ["config", "check", str(path)])
    assert result.exit_code == 0
    assert result.output.splitlines()[1:] == [
        f"preset debian: {PRESETS['debian'].summary}.",
        "host h: never evicted for space.",
    ]
