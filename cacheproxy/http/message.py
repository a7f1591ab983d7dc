"""Fields and message heads as values. Text is latin-1: every byte of the wire has one character here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, KeysView
from operator import itemgetter
from typing import NamedTuple

from cacheproxy.http.names import Names, names_of
from cacheproxy.http.uri import TargetUri

FieldLine = tuple[str, str]
_NAME: Callable[[FieldLine], str] = itemgetter(0)


class Fields:
    """Field lines in their order, case and number; look-up ignores case (RFC 9110 §5.1-5.3)."""

    __slots__ = ("lines", "named")

    def __init__(self, lines: Iterable[FieldLine] = (), names: Names | None = None) -> None:
        """`names`: those of the lines, where they are known."""
        self.lines: tuple[FieldLine, ...] = tuple(lines)
        self.named = names_of(tuple(map(_NAME, self.lines))) if names is None else names
        """What is known of the names alone, shared by all fields with the same names in the same order."""

    def all(self, name: str) -> tuple[str, ...]:
        """The values of each line called `name` (lower case), in order."""
        places = self.named.at.get(name)
        if places is None:
            return ()
        lines = self.lines
        return (lines[places[0]][1],) if len(places) == 1 else tuple([lines[place][1] for place in places])

    def get(self, name: str) -> str | None:
        """The combined value of `name` (lower case), its lines joined by commas; None if absent."""
        places = self.named.at.get(name)
        if places is None:
            return None
        lines = self.lines
        return lines[places[0]][1] if len(places) == 1 else ", ".join([lines[place][1] for place in places])

    def only(self, name: str) -> str | None:
        """The value of a field that appears exactly once, else None."""
        places = self.named.at.get(name)
        return self.lines[places[0]][1] if places is not None and len(places) == 1 else None

    def names(self) -> KeysView[str]:
        """The field names present, in lower case."""
        return self.named.at.keys()

    def __contains__(self, name: object) -> bool:
        return name in self.named.at

    def __iter__(self) -> Iterator[FieldLine]:
        return iter(self.lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and self.lines == other.lines

    def __hash__(self) -> int:
        return hash(self.lines)

    def __repr__(self) -> str:
        return f"Fields({list(self.lines)!r})"

    def without(self, names: Iterable[str]) -> Fields:
        """These fields less every line whose lower-case name is in `names`."""
        pick, rest = self.named.without(frozenset(names))
        return Fields(pick(self.lines), rest)

    def where(self, keep: Callable[[str, str], bool]) -> Fields:
        """The lines for which `keep(lower_name, value)` holds."""
        return Fields(line for line in self.lines if keep(line[0].lower(), line[1]))

    def plus(self, *lines: FieldLine) -> Fields:
        """These fields with `lines` behind them."""
        return Fields(self.lines + lines, self.named.plus(tuple(map(_NAME, lines))))

    def replaced(self, name: str, value: str) -> Fields:
        """`name` with exactly one line of `value`, in the place of its first line or at the end."""
        lower = name.lower()
        if lower not in self:
            return self.plus((name, value))
        out: list[FieldLine] = []
        done = False
        for line in self.lines:
            if line[0].lower() != lower:
                out.append(line)
            elif not done:
                out.append((line[0], value))
                done = True
        return Fields(out)

    def wire(self) -> str:
        """The lines as they stand in a head, each with CRLF."""
        return "".join([f"{name}: {value}\r\n" for name, value in self.lines])


class RequestHead(NamedTuple):
    """A request's head as accepted by the parser. `target` is None for CONNECT and `*`."""

    method: str
    request_target: str
    version: tuple[int, int]
    fields: Fields
    target: TargetUri | None = None

    def with_fields(self, fields: Fields) -> RequestHead:
        """The same request with other fields."""
        return RequestHead(self.method, self.request_target, self.version, fields, self.target)


class ResponseHead(NamedTuple):
    """A response's head: status 100-999, the reason phrase as sent (it may be empty), the fields."""

    status: int
    reason_phrase: str
    fields: Fields
    version: tuple[int, int] = (1, 1)

    def with_fields(self, fields: Fields) -> ResponseHead:
        """The same response with other fields."""
        return ResponseHead(self.status, self.reason_phrase, fields, self.version)

    def wire(self) -> bytes:
        """The head as sent: status line, fields, empty line."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in self.fields.lines])
        return f"HTTP/1.1 {self.status} {self.reason_phrase}\r\n{lines}\r\n".encode("latin-1")
