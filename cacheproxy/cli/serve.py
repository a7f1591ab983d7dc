"""`serve`."""

from __future__ import annotations

import gc
from pathlib import Path

import click

from cacheproxy.cli.main import cache_dir_option, cli, config_options
from cacheproxy.config.load import load
from cacheproxy.errors import ConfigError, StartError
from cacheproxy.workers.serve import serve as run


def usage_error(error: ConfigError) -> click.UsageError:
    """A wrong setting is a wrong command line: exit 2."""
    return click.UsageError(str(error))


@cli.command()
@click.option(
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    help="Where clients connect, over TLS with https:// in front; may be repeated.  [default: 127.0.0.1:3128]",
)
@config_options
@cache_dir_option
@click.option("--memory", metavar="SIZE", help="Memory for hot stored responses.  [default: 256MiB]")
@click.option(
    "--workers", metavar="N|auto", help="Worker processes; auto: one for each processor.  [default: 1]"
)
@click.option("--disk", metavar="SIZE", help="Largest size of the cache file.  [default: 10GiB]")
def serve(
    listen: tuple[str, ...],
    config_file: Path | None,
    options: tuple[str, ...],
    directory: Path,
    memory: str | None,
    disk: str | None,
    workers: str | None,
) -> None:
    """Run the proxy until Ctrl-C, SIGTERM or `cacheproxy stop`."""
    given = list(options)
    if listen:
        given.append(f"listen.addresses={list(listen)!r}")
    if memory is not None:
        given.append(f"cache.memory={memory}")
    if disk is not None:
        given.append(f"cache.disk={disk}")
    if workers is not None:
        given.append(f"server.workers={0 if workers == 'auto' else workers}")
    try:
        config = load(config_file, given)
    except ConfigError as error:
        raise usage_error(error) from None
    # What is loaded stays; the rest is freed by counting. Full collections would walk every stored head.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        run(config, directory.absolute())
    except StartError as error:
        raise click.ClickException(str(error)) from None
