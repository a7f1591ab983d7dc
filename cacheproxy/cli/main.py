"""The command group: common options and nearest names."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from cacheproxy import __version__
from cacheproxy.app import default_directory


class NearestGroup(click.Group):
    """A group that suggests the nearest command for an unknown one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with a suggestion."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1) if args else []
            if near and "Did you mean" not in error.message:
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None
            raise


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

cache_dir_option: Decorator = click.option(
    "--cache-dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_directory,
    show_default="$CACHE_DIRECTORY or ~/.cache/cacheproxy",
    help="The proxy's cache directory.",
)


def config_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--config and -o, as `serve` and `config` take them."""
    option = click.option(
        "-o", "options", multiple=True, metavar="KEY=VALUE", help="Any setting: -o cache.disk=50GiB."
    )
    file = click.option(
        "--config",
        "config_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="A TOML file with settings.",
    )
    return file(option(function))


@click.group(
    cls=NearestGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="cacheproxy")
def cli() -> None:
    """A caching forward proxy that saves bandwidth."""


def main() -> None:
    """Entry point of the `cacheproxy` command."""
    from cacheproxy.cli import act, configure, look, serve  # noqa: F401 - importing them registers the commands

    cli(prog_name="cacheproxy")
