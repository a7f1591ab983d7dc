"""The hot path and the ordinary path give the same bytes, log lines, counts and uses, whatever is sent.

The clock stands still in both, so even Age and Date must be equal. A good share of the cases has to have
been answered hot, or the comparison proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cacheproxy.http.dates import format_date
from cacheproxy.policy.access import AccessPolicy
from cacheproxy.server.self_check import missing_internals
from tests.support.origin import response
from tests.support.twins import IN_MEMORY, ON_DISK, START, Twin, Twins, Wire

CASES = 400
LEAST_HOT_SHARE = 0.3

DATE = "Date: " + format_date(START)
OLD = "Last-Modified: " + format_date(START - 86400)
FRESH = "Cache-Control: max-age=3600"
ROUTES = {
    "/plain": response(b"hello", DATE, FRESH, 'ETag: "1"', OLD, "Content-Type: text/plain; charset=utf-8"),
    "/weak": response(b"weak", DATE, FRESH, 'ETag: W/"1"', "age: 7"),
    "/dated": response(b"0123456789", DATE, "Cache-Control: public, s-maxage=100", OLD, "X-A: 1", "x-a: 2"),
    "/vary": response(b"varied", DATE, FRESH, "Vary: Accept-Encoding, X-Own", 'ETag: "v"'),
    "/star": response(b"star", DATE, FRESH, "Vary: *"),
    "/cookie": response(b"cookie", DATE, FRESH, "Set-Cookie: a=b", 'ETag: "c"'),
    "/gone": response(b"gone", DATE, FRESH, status="404 Not Found"),
    "/moved": response(b"", DATE, FRESH, "Location: /plain", status="301 Moved Permanently"),
    "/empty": b"HTTP/1.1 204 No Content\r\n" + f"{DATE}\r\n{FRESH}\r\n\r\n".encode(),
    "/large": response(bytes(range(256)) * 100, DATE, FRESH, 'ETag: "L"', "Accept-Ranges: bytes"),
    "/above": response(
        b"x", DATE, FRESH, "Cache-Status: cacheproxy; hit; ttl=12", "Via: 1.1 other", "Age: 3, 4"
    ),
    "/short": response(b"short", DATE, "Cache-Control: max-age=5, stale-while-revalidate=10", 'ETag: "s"'),
    "/stale": response(b"stale", DATE, "Cache-Control: max-age=0", 'ETag: "0"'),
    "/checked": response(b"checked", DATE, "Cache-Control: no-cache", 'ETag: "n"'),
    "/never": response(b"never", DATE, "Cache-Control: no-store", "Connection: keep-alive, x-own", "X-Own: 1"),
    "/private": response(
        b"private", DATE, "Cache-Control: private", "Content-Type: text/html", "Set-Cookie: a=b"
    ),
    "/dateless": response(b"dateless", "Cache-Control: no-store"),
    "/hinted": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + response(b"hinted", DATE, "Cache-Control: private", "Content-Encoding: x"),
    "/guessed": response(b"guessed", DATE, "Last-Modified: " + format_date(START - 1005)),
    "/auth": response(b"auth", DATE, "Cache-Control: max-age=60, public", "Vary: Authorization"),
}
COMMON = ["/plain"] * 6 + [
    "/weak",
    "/dated",
    "/vary",
    "/cookie",
    "/large",
    "/guessed",
    "/above",
    "/short",
    "/private",
]

HARMLESS = [
    "User-Agent: a", "User-Agent: b", "Accept: */*", "Cookie: s=1", "Cookie: s=2", "Authorization: Basic eA==",
    "Accept-Encoding: gzip", "accept-encoding: GZIP", "Accept-Encoding: br", "X-Own: 1", "x-own:  1 ",
    "Proxy-Connection: keep-alive", "Connection: keep-alive", "Cache-Control: max-stale", "Pragma: x",
    "X-Forwarded-For: 1.2.3.4", "Referer: http://x/", "Max-Forwards: 0", "Proxy-Authorization: Basic eA==",
    "Upgrade-Insecure-Requests: 1", "Via: 1.1 somebody", "Cache-Control: only-if-cached", "Cache-Control: max-age=100",
    "Cache-Control: min-fresh=10", "Expect: 100-continue",
]  # fmt: skip
CONDITIONS = [
    'If-None-Match: "1"', 'If-None-Match: W/"1"', "If-None-Match: *", 'If-None-Match: "x", "v"', 'If-None-Match: "L"',
    "If-Modified-Since: " + format_date(START), "If-Modified-Since: " + format_date(START - 90000),
    "If-Modified-Since: nonsense", "Range: bytes=0-3", "Range: bytes=2-", "Range: bytes=-3", "Range: bytes=99999999-",
    "Range: bytes=0-0,2-3", "Range: lines=1-2", 'If-Range: "1"', 'If-Range: "L"', "If-Range: " + format_date(START - 86400),
    "Range: bytes=100-20000",
]  # fmt: skip
HINDRANCES = [
    "Cache-Control: no-cache", "Pragma: no-cache", "Cache-Control: max-age=0", "Cache-Control: no-store",
    "Cache-Control: max-age=10", "Cache-Control: min-fresh=4000", "Connection: close", "Proxy-Connection: close",
    "Connection: X-Own", "Connection: accept-encoding", "TE: trailers", "Upgrade: websocket", "Connection: upgrade",
    "X-Forwarded-Host: evil", "X-HTTP-Method-Override: PUT", 'If-Match: "1"', "If-Unmodified-Since: x",
    "Via: 1.1 twin", "Expect: else", "Content-Length: 0", "Content-Length: 3", "Content-Length: 0, 0",
    "Transfer-Encoding: chunked", "Trailer: x", "Host: second", "No colon", " folded", "Space : x", "Nul: \x00",
    "Bare: \rx", "Bare: \nx", "\xff: x", "High: \xff", ": empty", "X: " + "y" * 9000, "Cookie: " + "z" * 33_000,
]  # fmt: skip


@dataclass(frozen=True)
class Step:
    """What happens next: segments on the connection, or a change around it."""

    kind: str
    data: tuple[bytes, ...] = ()
    amount: float = 0.0


@st.composite
def requests(draw: st.DrawFn, port: int) -> bytes:
    is_odd = draw(st.integers(0, 5)) == 0
    fields = draw(st.lists(st.sampled_from(HARMLESS), max_size=3))
    fields += draw(st.lists(st.sampled_from(CONDITIONS), max_size=1 if draw(st.booleans()) else 0))
    if not is_odd and draw(st.integers(0, 3)) == 0:
        # One thing alone is in the way of a request that would be answered hot.
        fields.append(draw(st.sampled_from(HINDRANCES)))
    path = draw(st.sampled_from([*ROUTES, "/other"] if is_odd else COMMON))
    method, version, end = "GET" if draw(st.integers(0, 4)) else "HEAD", "HTTP/1.1", "\r\n"
    authority = f"127.0.0.1:{port}"
    target = f"http://{authority}{path}"
    if draw(st.integers(0, 6)) == 0:
        # RFC 9112 §9.3: whether the connection goes on is said in another way.
        version = draw(st.sampled_from(["HTTP/1.0", "HTTP/1.0", "HTTP/1.1"]))
        fields += draw(
            st.sampled_from(
                [["Connection: keep-alive"], ["Proxy-Connection: Keep-Alive"], [], ["Connection: close"]]
            )
        )
    if is_odd:
        fields += draw(st.lists(st.sampled_from(HINDRANCES + CONDITIONS), max_size=2))
        method = draw(
            st.sampled_from(["GET", "GET", "HEAD", "POST", "OPTIONS", "TRACE", "get", "PURGE", "G@T"])
        )
        version = draw(
            st.sampled_from(["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 "])
        )
        end = draw(st.sampled_from(["\r\n"] * 8 + ["\n", "\r"]))
        targets = [target] * 8 + [
            path,
            "*",
            f"http://x@{authority}{path}",
            f"HTTP://{authority}{path}",
            target + "#f",
        ]
        target = draw(
            st.sampled_from([*targets, f"http://{authority}", "ftp://h/", target + " x", target + "?q=1"])
        )
    lines = [f"{method} {target} {version}", *draw(st.permutations([f"Host: {authority}", *fields]))]
    if is_odd and draw(st.integers(0, 9)) == 0:
        lines = [line for line in lines if not line.startswith("Host")]
    before = "\r\n" * draw(st.sampled_from([0] * 20 + [1, 2, 5])) if is_odd else ""
    return (before + end.join(lines) + end + end).encode("latin-1")


@st.composite
def feeds(draw: st.DrawFn, port: int) -> Step:
    stream = [draw(requests(port)) for _ in range(draw(st.integers(1, 4)))]
    how = draw(st.sampled_from(["whole"] * 6 + ["together", "cut", "shifted"]))
    if how == "whole":
        return Step("feed", tuple(stream))
    joined = b"".join(stream)
    if how == "together":
        return Step("feed", (joined,))
    cuts = sorted(draw(st.lists(st.integers(0, len(joined)), min_size=1, max_size=4)))
    if how == "shifted":
        # A request's beginning behind another's end: what a memo of whole segments would mistake.
        cuts = [len(stream[0]) - draw(st.sampled_from([1, 2, 4])), len(stream[0]) + 2]
    pieces = [joined[a:b] for a, b in zip([0, *cuts], [*cuts, len(joined)], strict=True)]
    return Step("feed", tuple(piece for piece in pieces if piece))


@st.composite
def cases(draw: st.DrawFn, port: int, *, on_disk: bool = False) -> list[Step]:
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 5))):
        if on_disk and draw(st.integers(0, 2)):
            steps.append(Step("to disk"))
        steps.append(draw(feeds(port)))
        if draw(st.integers(0, 2)) == 0:
            kind = draw(
                st.sampled_from(
                    ["later", "later", "deny client", "deny host", "allow", "pause", "purge", "soft", "connect"]
                )
            )
            steps.append(Step(kind, amount=draw(st.sampled_from([0.25, 1.0, 4.5, 7.0, -300.0, 4000.0]))))
    return steps


def policy(*, clients: tuple[str, ...] = ("loopback",), deny: tuple[str, ...] = ()) -> AccessPolicy:
    return AccessPolicy(
        clients=clients, deny_destinations=deny, allow_destinations=(), connect_ports=(443,), purge_clients=("loopback",)
    )  # fmt: skip


class House:
    """The twins in a loop of their own: hypothesis calls plain functions."""

    def __init__(self, directory: Path, options: tuple[str, ...] = IN_MEMORY) -> None:
        self.runner = asyncio.Runner()
        self.twins = Twins(directory, options)
        self.from_disk = 0
        self.run = self.runner.run
        self.cases = self.hot_cases = 0

    async def check(self, steps: list[Step]) -> None:
        twins = self.twins
        await twins.reset()
        wires = await self.warm()
        before = twins.hot_answers
        for step in steps:
            wires = await self.step(step, wires)
            twins.compare(*wires)
        for twin, wire in zip(twins.pair, wires, strict=True):
            await twin.finish(wire)
        twins.compare(*wires)
        self.from_disk += sum(" TCP_HIT/" in line for line in twins.hot.log.lines)
        self.cases += 1
        self.hot_cases += twins.hot_answers > before

    async def warm(self) -> list[Wire]:
        twins = self.twins
        twins.each(lambda twin: set_rules(twin, policy()))
        wires = [twin.connect() for twin in twins.pair]
        for path in ROUTES:
            request = f"GET {twins.origin.url(path)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            for twin, wire in zip(twins.pair, wires, strict=True):
                await twin.feed(wire, request)
        return wires

    async def step(self, step: Step, wires: list[Wire]) -> list[Wire]:
        twins = self.twins
        if step.kind == "connect" or wires[0].is_over:
            for twin, wire in zip(twins.pair, wires, strict=True):
                await twin.finish(wire)
            twins.compare(*wires)
            wires = [twin.connect() for twin in twins.pair]
        if step.kind == "feed":
            for twin, wire in zip(twins.pair, wires, strict=True):
                await twin.feed(wire, *step.data)
        elif step.kind == "later":
            twins.each(lambda twin: setattr(twin.clock, "now", twin.clock.now + step.amount))
        elif step.kind == "deny client":
            twins.each(lambda twin: set_rules(twin, policy(clients=("10.0.0.0/8",))))
        elif step.kind == "deny host":
            twins.each(lambda twin: set_rules(twin, policy(deny=("loopback",))))
        elif step.kind == "allow":
            twins.each(lambda twin: set_rules(twin, policy()))
        elif step.kind in ("purge", "soft"):
            for candidate in list(twins.plain.app.store._memory)[:4]:
                twins.each(partial(forget, key=candidate.stored.key, soft=step.kind == "soft"))
        elif step.kind == "to disk":
            await twins.to_disk()
        elif step.kind == "pause" and not wires[0].protocol._paused:
            for wire in wires:
                wire.protocol.pause_writing()
        return wires


def set_rules(twin: Twin, rules: AccessPolicy) -> None:
    twin.app.engine._parts.access = rules


def forget(twin: Twin, key: str, *, soft: bool) -> None:
    store = twin.app.store
    for candidate in store.lookup_memory(key):
        store.discard(candidate)
        if soft:
            store._memory.put(type(candidate)(candidate.stored.stale(), candidate.body, "memory"))


def begun(made: House) -> Iterator[House]:
    made.twins.origin.routes.update(ROUTES)
    with made.runner:
        made.run(made.twins.start())
        yield made
        made.run(made.twins.stop())


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from begun(House(tmp_path_factory.mktemp("twins")))


@pytest.fixture(scope="module")
def disk_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with pytest.MonkeyPatch.context() as patch:
        # What is stored is on disk soon.
        patch.setattr("cacheproxy.store.writer.BATCH_DELAY_S", 0.001)
        yield from begun(House(tmp_path_factory.mktemp("disks"), ON_DISK))


def test_hot_equals_ordinary(house: House) -> None:
    @settings(
        max_examples=CASES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(house.twins.origin.port))
    def all_cases(steps: list[Step]) -> None:
        house.run(asyncio.wait_for(house.check(steps), 20))

    all_cases()
    print(f"{house.hot_cases} of {house.cases} cases with hot answers, {house.twins.hot_answers} answers")
    assert house.hot_cases >= LEAST_HOT_SHARE * house.cases


def test_hot_equals_ordinary_from_disk(disk_house: House) -> None:
    @settings(
        max_examples=CASES // 2,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(disk_house.twins.origin.port, on_disk=True))
    def all_cases(steps: list[Step]) -> None:
        disk_house.run(asyncio.wait_for(disk_house.check(steps), 20))

    all_cases()
    print(f"{disk_house.hot_cases} of {disk_house.cases} cases hot, {disk_house.from_disk} answers from disk")
    assert disk_house.hot_cases >= LEAST_HOT_SHARE * disk_house.cases
    assert disk_house.from_disk >= disk_house.cases // 2


def test_the_hot_path_is_on(house: House) -> None:
    assert missing_internals() == []
    assert house.twins.hot.app.hot is not None
    assert house.twins.plain.app.hot is None


def test_a_client_that_does_not_read_gets_nothing_hot(house: House) -> None:
    async def check() -> None:
        twins, twin = house.twins, house.twins.hot
        await twins.reset()
        wires = await house.warm()
        request = f"GET {twins.origin.url('/plain')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        before = twins.hot_answers
        wires[0].protocol.pause_writing()
        await twin.feed(wires[0], request)
        written = len(wires[0].written)
        wires[0].protocol.data_received(request)
        assert twins.hot_answers == before
        assert len(wires[0].written) == written, "what is not read must not pile up"
        wires[0].protocol.resume_writing()
        await twin.settle(wires[0])
        await twin.feed(wires[0], request)
        assert twins.hot_answers == before + 1
        for one, wire in zip(twins.pair, wires, strict=True):
            await one.finish(wire)

    house.run(asyncio.wait_for(check(), 20))


def test_a_request_before_the_last_answer_is_sent_waits_for_it(house: House) -> None:
    """No transport of today gives two segments in one turn of the loop."""

    async def check() -> None:
        twins = house.twins
        await twins.reset()
        wires = await house.warm()
        before = twins.hot_answers
        head = f"GET {twins.origin.url('/plain')} HTTP/1.1\r\nHost: x\r\n".encode()
        for twin, wire in zip(twins.pair, wires, strict=True):
            wire.written.clear()
            wire.protocol.data_received(head + b"Range: bytes=0-0\r\n\r\n")
            wire.protocol.data_received(head + b"\r\n")
            await twin.feed(wire)
            await twin.finish(wire)
            assert bytes(wire.written).count(b"HTTP/1.1 206") == 1
            assert bytes(wire.written).endswith(b"\r\n\r\nhello")
        assert wires[0].written == wires[1].written
        assert twins.hot_answers > before

    house.run(asyncio.wait_for(check(), 20))
