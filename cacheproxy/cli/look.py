"""`stats`, `list`, `show`."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cacheproxy.cli.client import call, lines
from cacheproxy.cli.main import cache_dir_option, cli
from cacheproxy.config.units import format_size


def _console() -> Console:
    # Piped output must not be folded to a terminal's width.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 250)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.1f} %"


def _stats_table(stats: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    good = stats["hits"] + stats["revalidated"] + stats["collapsed"]
    rows = [
        ("requests", f"{stats['requests']:,}", f"{stats['errors']:,} errors, {stats['aborted']:,} aborted"),
        ("hit ratio", _percent(stats["request_hit_ratio"]), f"{good:,} of {stats['requests']:,} requests"),
        ("  hits", f"{stats['hits']:,}", "answered from the cache alone"),
        ("  revalidated", f"{stats['revalidated']:,}", "the origin said 304, the cache had the body"),
        ("  collapsed", f"{stats['collapsed']:,}", "joined another client's download"),
        ("misses", f"{stats['misses']:,}", ""),
        ("byte hit ratio", _percent(stats["byte_hit_ratio"]), "share of client bytes that no origin sent"),
        ("client bytes", format_size(stats["client_bytes"]), "sent to clients"),
        ("origin bytes", format_size(stats["origin_bytes"]), "received from origins"),
        ("saved", format_size(stats["saved_bytes"]), ""),
        ("tunnels", f"{stats['tunnels']:,}", f"{format_size(stats['tunnel_bytes'])}, which cannot be cached"),
        ("memory", format_size(stats["memory_bytes"]), f"{stats['memory_entries']:,} responses"),
        ("disk", format_size(stats["disk_bytes"]), f"{stats['disk_entries']:,} responses"),
        ("store failures", f"{stats['store_failures']:,}", ""),
        ("uptime", f"{stats['uptime_s']:,.0f} s", ""),
    ]
    for row in rows:
        table.add_row(*row)
    return table


@cli.command()
@cache_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Refresh until Ctrl-C.")
@click.option(
    "--interval",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds between refreshes.",
)
def stats(directory: Path, as_json: bool, watch: bool, interval: float) -> None:
    """Hit rates, bytes saved, what the cache holds."""
    if as_json:
        while True:
            click.echo(json.dumps(call(directory, "GET", "/stats")))
            if not watch:
                return
            time.sleep(interval)
    console = _console()
    first = _stats_table(call(directory, "GET", "/stats"))
    if not watch:
        console.print(first)
        return
    try:
        with Live(first, console=console, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                live.update(_stats_table(call(directory, "GET", "/stats")), refresh=True)
    except KeyboardInterrupt:
        return


@cli.command("list")
@cache_dir_option
@click.argument("glob", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per line.")
def list_entries(directory: Path, glob: str | None, as_json: bool) -> None:
    """Stored responses, those of URLs that match GLOB (* and ? as in a shell)."""
    path = "/entries" + (f"?glob={quote(glob, safe='')}" if glob else "")
    found = 0
    if not as_json:
        click.echo(f"{'STATUS':6} {'SIZE':>9} {'USES':>5}  {'STORED':19}  URL")
    for entry in lines(directory, path):
        found += 1
        if as_json:
            click.echo(json.dumps(entry))
        else:
            stored = datetime.fromtimestamp(entry["stored_at"]).astimezone()
            click.echo(
                f"{entry['status']:6} {format_size(entry['size']):>9} {entry['hits']:>5}  "
                f"{stored:%Y-%m-%d %H:%M:%S}  {entry['key']}"
            )
    if not found:
        raise SystemExit(1)


@cli.command()
@cache_dir_option
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(directory: Path, url: str, as_json: bool) -> None:
    """What is stored for URL: freshness, validator, variant, fields."""
    found = call(directory, "GET", f"/show?url={quote(url, safe='')}")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    for entry in [] if as_json else found:
        click.echo(f"{entry['url']}")
        state = "fresh" if entry["is_fresh"] else "stale: it is validated before its next use"
        click.echo(f"  {state}; age {entry['age_s']} s of {entry['lifetime_s']} s ({entry['lifetime_is']})")
        kept, size = entry["stored_bytes"], entry["bytes"]
        of = "" if kept == size else f" of {'an unknown number' if size is None else size}"
        click.echo(f"  {kept}{of} bytes in {entry['tier']}; validator {entry['validator'] or 'none'}")
        for name, value in entry["vary"].items():
            click.echo(f"  varies on {name}: {value if value is not None else '(absent)'}")
        click.echo(f"  {entry['status']}")
        for name, value in entry["fields"]:
            click.echo(f"  {name}: {value}")
    if not found:
        if not as_json:
            click.echo("nothing is stored for this URL", err=True)
        raise SystemExit(1)


@cli.command()
@cache_dir_option
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(directory: Path, url: str, as_json: bool) -> None:
    """Whether a GET of URL would be a hit now, and why."""
    found = call(directory, "GET", f"/explain?url={quote(url, safe='')}")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{found['url']}")
    click.echo(f"  {found['action']} ({found['reason']}): {found['why']}")
    for detail in found["details"]:
        click.echo(f"  {detail}")
