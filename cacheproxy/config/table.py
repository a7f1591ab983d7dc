"""The README's table of settings. `python -m cacheproxy.config.table --write` renews it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from cacheproxy.config.model import SETTINGS

_PLACE = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)


def settings_table() -> str:
    """Every setting with its default and help, as a Markdown table."""
    lines = ["| setting | default | what |", "| --- | --- | --- |"]
    for setting in SETTINGS:
        default = setting.show(setting.default).replace("|", "\\|")
        choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
        lines.append(f"| `{setting.name}` | `{default}` | {setting.help}{choices} |")
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """`text` with the table in its place."""
    return _PLACE.sub(lambda match: match.group(1) + settings_table() + match.group(2), text)


if __name__ == "__main__" and "--write" in sys.argv:
    readme = Path(__file__).parents[2] / "README.md"
    readme.write_text(renewed(readme.read_text(encoding="utf-8")), encoding="utf-8")
