"""Run the proxy until it is told to stop: alone, or as a supervisor of workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from cacheproxy.app import App
from cacheproxy.clock import run
from cacheproxy.config.model import Config
from cacheproxy.workers.greeting import greet
from cacheproxy.workers.supervisor import Supervisor


def serve(config: Config, directory: Path) -> None:
    """Run until SIGINT, SIGTERM or `stop`; a second signal ends at once. Raises StartError."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    count = config.number("server.workers") or len(os.sched_getaffinity(0))
    if count == 1:
        run(_alone(config, directory))
    else:
        Supervisor(config, directory, count).run()


async def _alone(config: Config, directory: Path) -> None:
    app = App(config, directory)
    await app.start()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if app.stopped.is_set():
            # The second one: the operator does not want to wait. SQLite and the lock survive this.
            os._exit(130)
        app.stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    greet(config, app.urls, directory)
    await app.stopped.wait()
    await app.close()
