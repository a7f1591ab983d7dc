"""The README's table of settings."""

from __future__ import annotations

from cacheproxy.config.model import BY_NAME
from cacheproxy.config.table import renewed, settings_table

PAGE = "before\n<!-- settings -->\n{}<!-- /settings -->\nbehind\n"


def test_every_setting_has_one_row_of_three_cells() -> None:
    rows = settings_table().splitlines()
    assert [row.split("`")[1] for row in rows[2:]] == list(BY_NAME)
    assert {row.replace("\\|", "").count("|") for row in rows} == {4}


def test_a_page_is_renewed_in_place_and_only_there() -> None:
    fresh = PAGE.format(settings_table())
    assert renewed(PAGE.format("old\n")) == fresh
    assert renewed(fresh) == fresh
    assert renewed("no place") == "no place"
