"""The settings: each once, each with a default that fits."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.options import CachingOptions
from cacheproxy.config.load import load
from cacheproxy.config.model import BY_NAME, SETTINGS, Config, Kind, Setting
from cacheproxy.http.head import HeadLimits

EMPTY = Config({}, (), frozenset())


def test_every_name_is_there_once() -> None:
    assert len(BY_NAME) == len(SETTINGS)
    assert all(name.count(".") == 1 for name in BY_NAME)


@pytest.mark.parametrize("setting", SETTINGS, ids=BY_NAME)
def test_defaults_are_shown_as_toml_that_means_the_same(setting: Setting) -> None:
    shown = EMPTY.show(setting.name)
    assert "v" in tomllib.loads(f"v = {shown}")
    assert load(None, [f"{setting.name}={shown}"]).show(setting.name) == shown
    assert setting.help


@pytest.mark.parametrize("setting", SETTINGS, ids=BY_NAME)
def test_each_kind_is_read_by_its_reader(setting: Setting) -> None:
    readers = {
        Kind.SIZE: Config.number,
        Kind.NUMBER: Config.number,
        Kind.DURATION: Config.seconds,
        Kind.FRACTION: Config.seconds,
        Kind.SWITCH: Config.switch,
        Kind.TEXT: Config.text,
        Kind.CHOICE: Config.text,
        Kind.TEXTS: Config.texts,
        Kind.NUMBERS: Config.numbers,
    }
    assert readers[setting.kind](EMPTY, setting.name) == setting.default


def test_the_parts_have_the_same_defaults_as_the_settings() -> None:
    caching, head = CachingOptions(), HeadLimits()
    assert caching.set_cookie == EMPTY.text("cache.set_cookie")
    assert caching.heuristic_fraction == EMPTY.seconds("cache.heuristic_fraction")
    assert caching.heuristic_max_s == EMPTY.seconds("cache.heuristic_max")
    assert caching.stale_disconnected_s == EMPTY.seconds("cache.stale_disconnected")
    limits = (head.target_bytes, head.field_bytes, head.head_bytes, head.fields)
    assert limits == tuple(EMPTY.number(f"limits.{name}") for name in ("target", "field", "head", "fields"))


PRINTABLE = st.text(st.characters(exclude_categories=["C"]))


@given(PRINTABLE, st.lists(PRINTABLE))
def test_texts_come_back_from_toml(text: str, texts: list[str]) -> None:
    assert tomllib.loads("v = " + BY_NAME["log.access"].show(text)) == {"v": text}
    assert tomllib.loads("v = " + BY_NAME["access.clients"].show(tuple(texts))) == {"v": texts}


def test_control_characters_come_back_from_toml() -> None:
    assert tomllib.loads("v = " + BY_NAME["log.access"].show("a\n\x7fb")) == {"v": "a\n\x7fb"}


@given(st.integers(0, 2**40))
def test_sizes_come_back_from_toml(size: int) -> None:
    assert load(None, [f"cache.disk={BY_NAME['cache.disk'].show(size)}"]).number("cache.disk") == size
