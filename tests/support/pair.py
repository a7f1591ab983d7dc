"""Two workers in this process, without a keeper and a disk: each calls the other back directly."""

from __future__ import annotations

from pathlib import Path

from cacheproxy.app import App
from cacheproxy.config.model import Config
from cacheproxy.engine.owners import Owners, socket_name
from cacheproxy.ports import Selector
from cacheproxy.server.listener import Listener, ListeningSockets
from cacheproxy.server.options import ConnectionOptions
from cacheproxy.sockets import bind_unix
from cacheproxy.store.disk import DiskTier
from cacheproxy.store.memory import MemoryTier
from cacheproxy.store.owned import OwnedStore
from cacheproxy.store.tiered import TieredStore
from cacheproxy.upstream.client import Client
from cacheproxy.workers.hops import siblings_listener, way_to_siblings


class Half(App):
    """One of the two; `others` are told what a keeper would tell them."""

    def __init__(self, config: Config, directory: Path, sockets: Path, number: int, others: list[Half]) -> None:
        super().__init__(config, directory)
        self.owners = Owners(number, 2)
        self.owned: OwnedStore
        self.hops: Listener
        self._sockets = sockets
        self._others = others

    def _tiered(self, memory: MemoryTier, disk: DiskTier | None) -> TieredStore:
        def recall(key: str) -> None:
            for other in self._others:
                other.owned.drop_copies(Selector(urls=(key,)))

        def ask_owner(key: str) -> None:
            for other in self._others:
                if other.owners.owns(key):
                    other.owned.invalidate(key)

        async def done() -> bool:
            return True

        self.owned = OwnedStore(
            memory,
            None,
            self._max_object(),
            self.owners.me,
            self.owners.owns,
            lambda: True,
            recall,
            ask_owner,
            done,
        )
        return self.owned

    async def _before_listening(self, options: ConnectionOptions, upstream: Client) -> None:
        siblings = way_to_siblings(self._sockets, self._clock)
        self._closers.append(siblings.close)

        async def purge(selector: Selector) -> int:
            return await self.engine.purge(selector, dry_run=False, soft=False)

        end = self.engine.join(self.owners, siblings, self.owned, purge)
        self.hops = hops = siblings_listener(self.engine, end, upstream, self._clock, options, self.hot)
        await hops.start(ListeningSockets([bind_unix(self._sockets / socket_name(self.owners.me))]), 1)
        self._closers.append(hops.close)
