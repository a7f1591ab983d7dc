"""The cork: everything of one turn of the loop goes out in the next, in order; no failure stops the others."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cacheproxy.cork import Cork


class Sender:
    def __init__(self, name: str, sent: list[str], cork: Cork | None = None, *, fails: bool = False) -> None:
        self.name = name
        self.sent = sent
        self.cork = cork
        self.fails = fails

    def uncork(self) -> None:
        self.sent.append(self.name)
        if self.fails:
            raise RuntimeError("a mistake")
        if self.cork is not None:
            self.cork.add(Sender(f"{self.name} again", self.sent))


async def test_a_turns_senders_go_together_and_in_order() -> None:
    sent: list[str] = []
    cork = Cork()
    for name in "abc":
        cork.add(Sender(name, sent))
    assert sent == []
    await asyncio.sleep(0)
    assert sent == ["a", "b", "c"]
    await asyncio.sleep(0)
    assert sent == ["a", "b", "c"]


async def test_who_is_added_meanwhile_waits_for_the_next_turn() -> None:
    sent: list[str] = []
    cork = Cork()
    cork.add(Sender("a", sent, cork))
    await asyncio.sleep(0)
    assert sent == ["a"]
    await asyncio.sleep(0)
    assert sent == ["a", "a again"]


async def test_one_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[str] = []
    cork = Cork()
    cork.add(Sender("a", sent, fails=True))
    cork.add(Sender("b", sent))
    with caplog.at_level(logging.ERROR, logger="cacheproxy"):
        await asyncio.sleep(0)
    assert sent == ["a", "b"]
    assert "while sending" in caplog.text
