"""Apache Traffic Server as a forward proxy: one net thread, access log off, else Debian's records."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.performance.peers.peer import Peer, Place
from benchmarks.performance.processes import BenchmarkError, Program, program, start

SHIPPED = Path("/etc/trafficserver")
STORAGE = "2G"

RECORDS = """
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.exec_thread.affinity INT 0
CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1
CONFIG proxy.config.http.connect_ports STRING 443 {origin_port}
CONFIG proxy.config.url_remap.remap_required INT 0
CONFIG proxy.config.reverse_proxy.enabled INT 0
CONFIG proxy.config.cache.ram_cache.size INT {memory}
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.proxy_name STRING bench
CONFIG proxy.config.hostdb.host_file.path STRING NULL
"""

ALLOW = """
ip_allow:
  - apply: in
    ip_addrs: 127.0.0.1
    action: allow
    methods: ALL
"""

RUN_ROOT = """
prefix: /usr
bindir: /usr/bin
sysconfdir: {directory}/etc
libdir: /usr/lib/trafficserver
logdir: {directory}/log
runtimedir: {directory}/run
localstatedir: {directory}/run
cachedir: {directory}/cache
plugindir: /usr/lib/trafficserver/modules
"""


def records(port: int, origin_port: int, memory: int) -> str:
    """Debian's records.config, with the lines that the benchmark sets instead of Debian's."""
    ours = RECORDS.format(port=port, origin_port=origin_port, memory=memory)
    names = {line.split()[1] for line in ours.split("\n") if line}
    shipped = (SHIPPED / "records.config").read_text()
    kept = [line for line in shipped.splitlines() if line.startswith("CONFIG") and line.split()[1] not in names]
    return "\n".join(kept) + ours


def launch(name: str, place: Place, *, memory: int) -> Program:
    """Write a run root of its own and start the server without its manager."""
    directory = place.directory
    if not SHIPPED.is_dir():
        raise BenchmarkError(f"{SHIPPED} is missing")
    shutil.copytree(SHIPPED, directory / "etc", symlinks=False)
    for made in ("log", "run", "cache"):
        (directory / made).mkdir()
    etc = directory / "etc"
    (etc / "records.config").write_text(records(place.port, place.origin.port, memory))
    (etc / "storage.config").write_text(f"{directory}/cache {STORAGE}\n")
    (etc / "ip_allow.yaml").write_text(ALLOW)
    run_root = directory / "runroot.yaml"
    run_root.write_text(RUN_ROOT.format(directory=directory))
    argv = [program("traffic_server"), f"--run-root={run_root}"]
    return start(name, argv, cpus=place.cpus, port=place.port, directory=directory)


def _peer(name: str, shown: str, memory: int) -> Peer:
    started: Callable[[str, Place], Program] = partial(launch, memory=memory)
    return Peer(name, shown, ("traffic_server",), "trafficserver", started)


PEERS = (
    _peer("ats", "memory and disk, access log off", 1024 * 1024 * 1024),
    _peer("ats-disk", "disk, no memory tier, access log off", 0),
)
