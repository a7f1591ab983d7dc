"""Start-up self-check: is aiohttp still built as the connection and its hot path need it?"""

from __future__ import annotations

import inspect

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

# aiohttp's own names, some of them private, that connection.py and the hot path stand on.
_INTERNALS = (
    "_drain_helper",
    "_loop",
    "_manager",
    "_parser",
    "_paused",
    "_pause_transport_reading",
    "_resume_transport_reading",
    "_task_handler",
    "force_close",
    "pause_writing",
    "resume_writing",
    "start",
    "transport",
)


def missing_internals() -> list[str]:
    """The internals of aiohttp that the hot path needs and that this version lacks."""
    missing = [name for name in _INTERNALS if not hasattr(RequestHandler, name)]
    if not inspect.iscoroutinefunction(getattr(RequestHandler, "start", None)):
        missing.append("start as a coroutine")
    if not isinstance(getattr(web.Server, "connections", None), property):
        missing.append("Server.connections")
    return missing
