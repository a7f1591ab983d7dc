"""Fields and message heads as values. Text is latin-1: every byte of the wire has one character here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, KeysView, Sequence
from typing import NamedTuple

from cacheproxy.http.uri import TargetUri

FieldLine = tuple[str, str]


class Fields:
    """Field lines in their order, case and number; look-up ignores case (RFC 9110 §5.1-5.3)."""

    __slots__ = ("_index", "lines")
    _index: dict[str, tuple[str, ...]] | None

    def __init__(self, lines: Iterable[FieldLine] = ()) -> None:
        self.lines: tuple[FieldLine, ...] = tuple(lines)
        self._index = None

    @classmethod
    def indexed(cls, lines: Iterable[FieldLine], entries: Sequence[tuple[str, tuple[str]]]) -> Fields:
        """Fields whose index is known: `entries` has (lower-case name, (value,)) of each line."""
        made = cls(lines)
        index: dict[str, tuple[str, ...]] = dict(entries)
        if len(index) == len(entries):
            made._index = index
        return made

    def _lookup(self) -> dict[str, tuple[str, ...]]:
        index = self._index
        if index is None:
            index = {}
            for name, value in self.lines:
                lower = name.lower()
                have = index.get(lower)
                index[lower] = (value,) if have is None else (*have, value)
            self._index = index
        return index

    def all(self, name: str) -> tuple[str, ...]:
        """The values of each line called `name` (lower case), in order."""
        return self._lookup().get(name, ())

    def get(self, name: str) -> str | None:
        """The combined value of `name` (lower case), its lines joined by commas; None if absent."""
        values = self._lookup().get(name)
        if values is None:
            return None
        return values[0] if len(values) == 1 else ", ".join(values)

    def only(self, name: str) -> str | None:
        """The value of a field that appears exactly once, else None."""
        values = self._lookup().get(name)
        return values[0] if values is not None and len(values) == 1 else None

    def names(self) -> KeysView[str]:
        """The field names present, in lower case."""
        return self._lookup().keys()

    def __contains__(self, name: object) -> bool:
        return name in self._lookup()

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
        drop = frozenset(names)
        index = self._index
        if index is None:
            return Fields([line for line in self.lines if line[0].lower() not in drop])
        if len(index) == len(self.lines):
            # Each name once: the index is in the order of the lines.
            rest = Fields([line for line, name in zip(self.lines, index, strict=True) if name not in drop])
        else:
            rest = Fields([line for line in self.lines if line[0].lower() not in drop])
        rest._index = kept = index.copy()
        for name in drop:
            kept.pop(name, None)
        return rest

    def where(self, keep: Callable[[str, str], bool]) -> Fields:
        """The lines for which `keep(lower_name, value)` holds."""
        return Fields(line for line in self.lines if keep(line[0].lower(), line[1]))

    def plus(self, *lines: FieldLine) -> Fields:
        """These fields with `lines` behind them."""
        more = Fields((*self.lines, *lines))
        if self._index is not None:
            more._index = index = self._index.copy()
            for name, value in lines:
                lower = name.lower()
                index[lower] = (*index.get(lower, ()), value)
        return more

    def replaced(self, name: str, value: str) -> Fields:
        """`name` with exactly one line of `value`, in the place of its first line or at the end."""
        lower = name.lower()
        if self._index is not None and lower not in self._index:
            return self.plus((name, value))
        out: list[FieldLine] = []
        done = False
        for line in self.lines:
            if line[0].lower() != lower:
                out.append(line)
            elif not done:
                out.append((line[0], value))
                done = True
        if not done:
            out.append((name, value))
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
        return f"HTTP/1.1 {self.status} {self.reason_phrase}\r\n{self.fields.wire()}\r\n".encode("latin-1")
