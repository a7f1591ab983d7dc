"""`config check|show|init`."""

from __future__ import annotations

from pathlib import Path

import click

from cacheproxy.cli.main import NearestGroup, cli, config_options
from cacheproxy.cli.serve import usage_error
from cacheproxy.config.load import load
from cacheproxy.config.model import BY_NAME, SECTIONS, SETTINGS, Config
from cacheproxy.config.rules import explain_rules
from cacheproxy.errors import ConfigError

PROBLEMS = 4


@cli.group(cls=NearestGroup)
def config() -> None:
    """Check, show or write a configuration."""


@config.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@config_options
def check(file: Path | None, config_file: Path | None, options: tuple[str, ...]) -> None:
    """Read a configuration, say what is wrong with it (exit 4) and what its rules do."""
    try:
        checked = load(file or config_file, options)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(PROBLEMS) from None
    click.echo(f"no problems; {len(checked.explicit)} settings differ from or restate the defaults")
    for line in explain_rules(checked.rules):
        click.echo(line)


@config.command()
@config_options
def show(config_file: Path | None, options: tuple[str, ...]) -> None:
    """Every setting in force, as TOML."""
    try:
        shown = load(config_file, options)
    except ConfigError as error:
        raise usage_error(error) from None
    click.echo(_document(shown, commented=False), nl=False)


@config.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("cacheproxy.toml"))
def init(file: Path) -> None:
    """Write a commented file with every setting and its default."""
    if file.exists():
        raise click.ClickException(f"{file} exists already; it is left as it is")
    try:
        file.write_text(_document(load(None, ()), commented=True), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None
    click.echo(f"{file} written; start with: cacheproxy serve --config {file}")


def _document(shown: Config, *, commented: bool) -> str:
    text = "# cacheproxy: every setting with its default; take away the # to change one.\n" if commented else ""
    for section in SECTIONS:
        text += f"{'' if not text else chr(10)}[{section}]\n"
        for setting in SETTINGS:
            if setting.name.partition(".")[0] != section:
                continue
            key = setting.name.partition(".")[2]
            choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
            if commented:
                text += f"# {setting.help}{choices}\n# {key} = {BY_NAME[setting.name].show(setting.default)}\n"
            else:
                text += f"{key} = {shown.show(setting.name)}\n"
    return text
