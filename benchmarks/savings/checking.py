"""Whether a body is what it must be: piece by piece for plain ones, after decoding for coded ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.savings.bodies import Body, decoded

CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+|\*)")


@dataclass
class Head:
    """A response's status line and fields, names in lower case."""

    status: int
    fields: dict[str, str]

    @classmethod
    def parse(cls, data: bytes) -> Head:
        line, *rest = data.decode("latin-1").split("\r\n")
        fields: dict[str, str] = {}
        for one in rest:
            name, _, value = one.partition(":")
            name = name.strip().lower()
            fields[name] = f"{fields[name]}, {value.strip()}" if name in fields else value.strip()
        return cls(int(line.split(" ")[1]), fields)


@dataclass
class Check:
    """Compares what arrives with the bodies that would be right: versions that a client may see."""

    bodies: Callable[[], list[Body]]
    """Asked when the head arrives: a version that was made meanwhile is right too."""
    ranges: tuple[tuple[int, int], ...] = ()
    codings: frozenset[str] = frozenset()
    """The content codings that the client said it takes."""
    problem: str = ""
    candidates: list[Body] = field(default_factory=list)
    """Those that agree with all that came so far."""
    _offset: int = 0
    _end: int | None = None
    _whole: bytearray | None = None
    _head: Head = field(default_factory=lambda: Head(0, {}))

    def begin(self, head: Head) -> None:
        """Judges the head, and decides how the body is compared."""
        self._head = head
        self.candidates = self.bodies()
        coding = head.fields.get("content-encoding", "")
        if coding and coding not in self.codings:
            self.problem = f"a coding the client does not take: {coding}"
        kind = head.fields.get("content-type", "")
        if coding or (head.status == 206 and kind.startswith("multipart/byteranges")):
            self._whole = bytearray()
        elif head.status == 206:
            match = CONTENT_RANGE.fullmatch(head.fields.get("content-range", ""))
            if match is None or not self.ranges:
                self.problem = "206 without a usable Content-Range"
                return
            self._offset, self._end = int(match.group(1)), int(match.group(2)) + 1
            sizes = {str(body.size) for body in self.candidates} | {"*"}
            if (self._offset, self._end) not in self.ranges or match.group(3) not in sizes:
                self.problem = f"another range than asked: {head.fields['content-range']}"

    def feed(self, piece: bytes) -> None:
        if self._whole is not None:
            self._whole += piece
            return
        first, end = self._offset, self._offset + len(piece)
        self._offset = end
        self.candidates = [
            body for body in self.candidates if body.size >= end and body.read(first, end) == piece
        ]
        if not self.candidates:
            self.problem = self.problem or f"wrong bytes between {first} and {end}"

    def finish(self) -> str:
        """After the last byte: what is wrong, empty when nothing is."""
        if self.problem:
            return self.problem
        if self._whole is None:
            ends = {body.size for body in self.candidates} if self._end is None else {self._end}
            return "" if self._offset in ends else f"ended at {self._offset} as if whole"
        data = bytes(self._whole)
        if self._head.status == 206:
            return self._parts(data)
        plain = decoded(data, self._head.fields["content-encoding"])
        right = any(plain == body.read(0, body.size) for body in self.candidates)
        return "" if right else "wrong bytes after decoding"

    def _parts(self, data: bytes) -> str:
        """multipart/byteranges: every part right, and every range there."""
        match = re.search(r"boundary=\"?([^\";]+)", self._head.fields.get("content-type", ""))
        if match is None:
            return "multipart without boundary"
        found: set[tuple[int, int]] = set()
        for part in data.split(b"--" + match.group(1).encode())[1:-1]:
            head, _, body = part.partition(b"\r\n\r\n")
            place = CONTENT_RANGE.search(head.decode("latin-1"))
            if place is None:
                return "a part without Content-Range"
            first, end = int(place.group(1)), int(place.group(2)) + 1
            body = body.removesuffix(b"\r\n")
            self.candidates = [one for one in self.candidates if one.read(first, end) == body]
            found.add((first, end))
        covered = all(any(a <= first and end <= b for a, b in found) for first, end in self.ranges)
        return "" if self.candidates and covered else "wrong parts"
