"""The keeper's view of the workers: who must answer, and who need not any more."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cacheproxy.channel import Channel, ChannelLost
from cacheproxy.errors import StoreError
from cacheproxy.workers.members import Member, Members


class Line:
    """A channel whose calls end with `fault`, or well."""

    def __init__(self, fault: StoreError | None, *, is_open: bool) -> None:
        self.fault = fault
        self.is_open = is_open
        self.asked: list[str] = []

    async def call(self, name: str, *arguments: Any, timeout_s: float) -> None:
        self.asked.append(name)
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize(
    ("fault", "is_open", "is_told"),
    [
        (None, True, False),
        (ChannelLost("it does not answer"), True, True),
        (ChannelLost("it has gone"), False, False),
        (StoreError("it cannot"), True, True),
        (StoreError("it could not"), False, True),
    ],
)
async def test_who_is_there_must_answer(fault: StoreError | None, is_open: bool, is_told: bool) -> None:
    members = Members(3, lambda: None)
    lines = [Line(None, is_open=True), Line(fault, is_open=is_open), Line(None, is_open=True)]
    for number, line in enumerate(lines):
        members.arrived(Member(number, 100 + number, cast(Channel, line)))
    if is_told:
        with pytest.raises(StoreError, match=str(fault)):
            await members.ask_present("heard", timeout_s=1)
    else:
        await members.ask_present("heard", timeout_s=1)
    assert [line.asked for line in lines] == [["heard"]] * 3
