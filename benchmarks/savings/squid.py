"""Squid as a peer: Debian's defaults (S0), tuned for savings (S1), and without whole-file ranges (S2)."""

from __future__ import annotations

import asyncio
import pwd
import shutil
from pathlib import Path

from benchmarks.savings.proxies import MIB, Proxy, is_root, run_once

PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/squid/sbin")
USERS = ("proxy", "squid", "nobody")

# /etc/squid/squid.conf of Debian without its comments; the port and what belongs to a machine is below.
DEBIAN = """
acl localnet src 127.0.0.1
acl SSL_ports port 443
acl Safe_ports port 80
acl Safe_ports port 443
acl Safe_ports port 1025-65535
acl CONNECT method CONNECT
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports
http_access allow localhost manager
http_access deny manager
http_access allow localhost
http_access deny all
"""
PATTERNS = """
refresh_pattern ^ftp: 1440 20% 10080
refresh_pattern -i (/cgi-bin/|\\?) 0 0% 0{option}
refresh_pattern . 0 20% 4320{option}
"""


def squid_path() -> str | None:
    """Where Squid is, None when it is not installed."""
    return shutil.which("squid") or next(
        (f"{place}/squid" for place in PLACES if Path(place, "squid").exists()), None
    )


def _unprivileged() -> pwd.struct_passwd:
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise KeyError(f"none of the users {USERS} exists")


class Squid(Proxy):
    """S0: what Debian ships, with the disk cache switched on."""

    name = "S0"
    before = ""
    """Directives that must stand before cache_dir."""
    option = ""
    after = ""

    @property
    def conf(self) -> Path:
        return self.folder / "squid.conf"

    def text(self) -> str:
        """The configuration file."""
        here = self.folder
        lines = [
            f"http_port 127.0.0.1:{self.port}",
            f"pid_filename {here}/squid.pid",
            f"cache_log {here}/cache.log",
            f"access_log stdio:{here}/access.log",
            f"coredump_dir {here}",
            "pinger_enable off",
            "netdb_filename none",
            "shutdown_lifetime 1 second",
            "visible_hostname savings.test",
            f"cache_mem {max(1, self.memory_bytes // MIB)} MB",
            self.before.format(disk=self.disk_bytes // MIB),
            f"cache_dir ufs {here}/cache {max(1, self.disk_bytes // MIB)} 16 256",
            self.after,
        ]
        if is_root():
            lines.append(f"cache_effective_user {_unprivileged().pw_name}")
        return "\n".join(lines) + DEBIAN + PATTERNS.format(option=self.option)

    async def prepare(self) -> None:
        (self.folder / "cache").mkdir()
        self.conf.write_text(self.text())
        if is_root():
            user = _unprivileged()
            for folder in (self.folder, self.folder / "cache"):
                shutil.chown(folder, user.pw_uid, user.pw_gid)
        path = squid_path()
        assert path is not None
        await run_once(path, "-n", self.service, "-N", "-z", "-f", str(self.conf))

    @property
    def service(self) -> str:
        """A name of its own: instances with the same one share their index in shared memory."""
        return f"savings{self.port}"

    def command(self) -> list[str]:
        return [squid_path() or "squid", "-n", self.service, "-N", "-f", str(self.conf)]

    async def store_bytes(self) -> int:
        return await asyncio.to_thread(_disk_usage, self.folder / "cache")


class SquidTuned(Squid):
    """S1: joins fetches, fetches whole files for ranges, finishes what was abandoned."""

    name = "S1"
    before = "maximum_object_size {disk} MB\ncache_replacement_policy heap LFUDA"
    option = " reload-into-ims"
    after = "collapsed_forwarding on\nrange_offset_limit none\nquick_abort_min -1 KB"


class SquidCareful(SquidTuned):
    """S2: S1 that fetches ranges as they are asked and gives up what was abandoned."""

    name = "S2"
    after = "collapsed_forwarding on\nrange_offset_limit 0"


class SquidRecent(SquidTuned):
    """S1 with LRU, for the eviction group."""

    name = "LRU"
    before = "maximum_object_size {disk} MB\ncache_replacement_policy lru"


class SquidFrequent(SquidTuned):
    """S1 under the name of its policy."""

    name = "LFUDA"


def _disk_usage(folder: Path) -> int:
    return sum(one.stat().st_blocks * 512 for one in folder.rglob("*") if one.is_file())
