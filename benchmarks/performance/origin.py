"""The origin: /obj/SIZE/NAME may be cached for a day, /nc/SIZE/NAME must not be stored. It counts its requests."""

from __future__ import annotations

import http.client
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.performance.processes import BenchmarkError, Program, cores, free_port, missing, program, start
from benchmarks.performance.sizes import SIZES

OPEN_FILES = 16384
FETCHED = "X-Fetched"  # a field that differs in every answer of the origin, so that a stored one is known again

HEAD = """
{user}
worker_processes 1;
worker_rlimit_nofile {files};
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
events {{ worker_connections {files}; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  types {{ }}
  default_type text/plain;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  open_file_cache max=1000;
"""

SERVER = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /status {{ stub_status; }}
    location ~ ^/obj/(\\w+)/ {{ alias {files}/$1; add_header Cache-Control "public, max-age=86400";
      add_header {fetched} $request_id; }}
    location ~ ^/check/(\\w+)/ {{ alias {files}/$1; add_header Cache-Control "max-age=0"; }}
    location ~ ^/nc/(\\w+)/ {{ alias {files}/$1; add_header Cache-Control "no-store"; }}
  }}
}}
"""


def write_bodies(directory: Path) -> None:
    """One file per size."""
    directory.mkdir(exist_ok=True)
    for name, size in SIZES.items():
        (directory / name).write_bytes(b"x" * size)


def nginx_head(directory: Path) -> str:
    """What every nginx of the benchmark begins its configuration with; its own directories, its own user."""
    user = "user root;" if os.geteuid() == 0 else ""
    return HEAD.format(user=user, files=OPEN_FILES, directory=directory)


def server_block(port: int, files: Path) -> str:
    """The server of bodies, and the end of the configuration."""
    return SERVER.format(port=port, files=files, fetched=FETCHED)


def start_nginx(name: str, configuration: str, directory: Path, port: int, cpus: list[int]) -> Program:
    """Start an nginx with the given configuration."""
    path = directory / "nginx.conf"
    path.write_text(configuration)
    argv = [program("nginx"), "-p", str(directory), "-c", str(path), "-e", str(directory / "error.log")]
    return start(name, argv, cpus=cpus, port=port, directory=directory)


@dataclass(slots=True)
class Origin:
    """A running origin."""

    running: Program
    port: int
    kind: str
    _asked: int = 0

    @property
    def authority(self) -> str:
        """HOST:PORT as it stands in target URIs."""
        return f"127.0.0.1:{self.port}"

    def requests(self) -> int:
        """Requests so far, without those that this method makes."""
        self._asked += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/status")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        lines = text.splitlines()
        if len(lines) < 3:
            raise BenchmarkError(f"the origin's status page is {text!r}")
        return int(lines[2].split()[2]) - self._asked


def start_origin(directory: Path) -> Origin:
    """nginx where it is installed, else the Python origin."""
    directory.mkdir()
    port = free_port()
    load_core = cores()[1]
    if not missing("nginx"):
        write_bodies(directory / "files")
        text = nginx_head(directory) + server_block(port, directory / "files")
        return Origin(start_nginx("origin", text, directory, port, load_core), port, "nginx")
    argv = [sys.executable, "-m", "benchmarks.performance.fallback_origin", str(port)]
    return Origin(start("origin", argv, cpus=load_core, port=port, directory=directory), port, "python")
