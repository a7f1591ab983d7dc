"""nginx: as a server of a static file, and with proxy_cache in front of the origin."""

from __future__ import annotations

from benchmarks.performance.origin import nginx_head, server_block, start_nginx, write_bodies
from benchmarks.performance.peers.peer import Peer, Place
from benchmarks.performance.processes import Program

CACHE = """
  proxy_cache_path {directory}/cache levels=1:2 keys_zone=all:256m max_size=8g inactive=1d use_temp_path=off;
  upstream origin {{ server {origin}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_cache all;
      proxy_cache_key $http_host$uri;
      proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


def static(name: str, place: Place) -> Program:
    """A file server; absolute-form targets are read for their path."""
    write_bodies(place.directory / "files")
    text = nginx_head(place.directory) + server_block(place.port, place.directory / "files")
    return start_nginx(name, text, place.directory, place.port, place.cpus)


def proxy_cache(name: str, place: Place) -> Program:
    """A gateway with a cache of files."""
    cache = CACHE.format(directory=place.directory, origin=place.origin.authority, port=place.port)
    return start_nginx(name, nginx_head(place.directory) + cache, place.directory, place.port, place.cpus)


PEERS = (
    Peer("nginx", "server of a static file, no proxy", ("nginx",), "nginx", static, proxy=False),
    Peer("nginx-cache", "proxy_cache (files), access log off", ("nginx",), "nginx", proxy_cache),
)
