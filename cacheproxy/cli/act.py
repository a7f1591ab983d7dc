"""`purge`, `stop`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from cacheproxy.admin.routes import SOCKET_NAME
from cacheproxy.cli.client import call
from cacheproxy.cli.main import cache_dir_option, cli

_STOP_WAIT_S = 60.0


@cli.command()
@cache_dir_option
@click.argument("urls", nargs=-1)
@click.option("--host", help="Everything of this host.")
@click.option("--glob", help="Every URL that matches (* and ? as in a shell).")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("--soft", is_flag=True, help="Keep the bodies; have them validated before their next use.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def purge(
    directory: Path,
    urls: tuple[str, ...],
    host: str | None,
    glob: str | None,
    everything: bool,
    soft: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove stored responses: of URLS, a host, a glob, or all."""
    if sum((bool(urls), host is not None, glob is not None, everything)) != 1:
        raise click.UsageError("name URLs, or one of --host, --glob and --all")
    body = {"urls": list(urls), "host": host, "glob": glob, "everything": everything}
    body |= {"dry_run": dry_run, "soft": soft}
    count = call(directory, "POST", "/purge", body)["count"]
    if as_json:
        click.echo(json.dumps({"count": count, "dry_run": dry_run, "soft": soft}))
    else:
        done = "marked stale" if soft else "removed"
        click.echo(f"{count} stored response{'' if count == 1 else 's'} {'would be ' if dry_run else ''}{done}")
    if not count:
        raise SystemExit(1)


@cli.command()
@cache_dir_option
def stop(directory: Path) -> None:
    """Let running exchanges finish, then stop the proxy."""
    call(directory, "POST", "/stop")
    deadline = time.monotonic() + _STOP_WAIT_S
    while (directory / SOCKET_NAME).exists():
        if time.monotonic() > deadline:
            raise click.ClickException("the proxy is still draining")
        time.sleep(0.05)
    click.echo("stopped")
