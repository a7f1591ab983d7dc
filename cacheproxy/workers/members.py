"""The keeper's view of the workers: who is there, what each has counted, one question to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cacheproxy.channel import Channel, ChannelLost
from cacheproxy.errors import StoreError
from cacheproxy.telemetry.counters import Counters
from cacheproxy.telemetry.summing import Values, add

_PATIENCE_S = 10.0
_ANSWER_S = 600.0


class Member:
    """One worker's life, from its greeting to the end of its channel."""

    def __init__(self, number: int, pid: int, channel: Channel) -> None:
        self.number = number
        self.pid = pid
        self.channel = channel
        self.counts: Values = {}
        self.is_drained = False


class Members:
    """`on_change` is called when somebody comes or goes."""

    def __init__(self, count: int, on_change: Callable[[], None]) -> None:
        self.count = count
        self._on_change = on_change
        self._present: dict[int, Member] = {}
        self._arrival = asyncio.Event()
        # What workers had counted that are no longer there.
        self.departed = Counters()

    @property
    def present(self) -> list[Member]:
        """Who is there, in order."""
        return [self._present[number] for number in sorted(self._present)]

    @property
    def are_complete(self) -> bool:
        """Whether every worker is there."""
        return len(self._present) == self.count

    def arrived(self, member: Member) -> None:
        """A worker has told its number."""
        self._present[member.number] = member
        self._arrival.set()
        self._arrival = asyncio.Event()
        self._on_change()

    def left(self, member: Member) -> None:
        """A worker has gone; what it had counted last stays in the sum."""
        add(self.departed, member.counts)
        if self._present.get(member.number) is member:
            del self._present[member.number]
        self._on_change()

    def tell(self, *message: Any, but: Channel | None = None) -> None:
        """A message to every worker."""
        for member in self._present.values():
            if member.channel is not but:
                member.channel.send(*message)

    async def ask(self, number: int, name: str, *arguments: Any) -> Any:
        """A worker's answer; where it is being replaced, its replacement's. Raises StoreError."""
        while True:
            member = await self._present_one(number)
            try:
                return await member.channel.call(name, *arguments, timeout_s=_ANSWER_S)
            except ChannelLost:
                if member.channel.is_open:
                    raise

    async def _present_one(self, number: int) -> Member:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while (member := self._present.get(number)) is None or not member.channel.is_open:
                    await self._arrival.wait()
                return member
        except TimeoutError:
            raise StoreError(f"worker {number} is not there, and no other has taken its place") from None

    async def ask_all(self, name: str, *arguments: Any) -> list[Any]:
        """Every worker's answer, in order. Raises StoreError."""
        return list(await asyncio.gather(*(self.ask(each, name, *arguments) for each in range(self.count))))

    async def ask_present(self, name: str, timeout_s: float) -> None:
        """Have all who are there answer. Raises StoreError where one does not, but for who has gone meanwhile."""
        present = self.present
        calls = [member.channel.call(name, timeout_s=timeout_s) for member in present]
        for member, found in zip(present, await asyncio.gather(*calls, return_exceptions=True), strict=True):
            # Who is being replaced comes without copies; one that stands still has them.
            if isinstance(found, BaseException) and (
                member.channel.is_open or not isinstance(found, ChannelLost)
            ):
                raise found
