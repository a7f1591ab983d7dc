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
    """Field lines in their order, case and number; look-up ignores case (RFC 9110 §5.1-5.3).

    A line is kept as it stands in a head, `Name: value`: most lines are only passed on. Where the value begins is
    known to the names, which all heads with the same share.
    """

    __slots__ = ("named", "texts")

    def __init__(self, lines: Iterable[FieldLine] = ()) -> None:
        pairs = tuple(lines)
        self.texts: tuple[str, ...] = tuple([f"{name}: {value}" for name, value in pairs])
        self.named = names_of(tuple(map(_NAME, pairs)))
        """What is known of the names alone."""

    @classmethod
    def sent(cls, texts: tuple[str, ...], named: Names) -> Fields:
        """Fields of lines that are there already, each `Name: value`, with these names."""
        fields = cls.__new__(cls)
        fields.texts = texts
        fields.named = named
        return fields

    @property
    def lines(self) -> tuple[FieldLine, ...]:
        """(name, value) each, made anew."""
        named = self.named
        return tuple(
            [
                (name, text[start:])
                for name, start, text in zip(named.as_sent, named.starts, self.texts, strict=True)
            ]
        )

    def value_at(self, place: int) -> str:
        """The value of the line at a place."""
        return self.texts[place][self.named.starts[place] :]

    def all(self, name: str) -> tuple[str, ...]:
        """The values of each line called `name` (lower case), in order."""
        places = self.named.at.get(name)
        return () if places is None else tuple([self.value_at(place) for place in places])

    def get(self, name: str) -> str | None:
        """The combined value of `name` (lower case), its lines joined by commas; None if absent."""
        places = self.named.at.get(name)
        if places is None:
            return None
        if len(places) == 1:
            return self.texts[places[0]][self.named.starts[places[0]] :]
        return ", ".join([self.value_at(place) for place in places])

    def only(self, name: str) -> str | None:
        """The value of a field that appears exactly once, else None."""
        places = self.named.at.get(name)
        return self.value_at(places[0]) if places is not None and len(places) == 1 else None

    def names(self) -> KeysView[str]:
        """The field names present, in lower case."""
        return self.named.at.keys()

    def __contains__(self, name: object) -> bool:
        return name in self.named.at

    def __iter__(self) -> Iterator[FieldLine]:
        return iter(self.lines)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Fields)
            and self.texts == other.texts
            and self.named.as_sent == other.named.as_sent
        )

    def __hash__(self) -> int:
        return hash(self.texts)

    def __repr__(self) -> str:
        return f"Fields({list(self.lines)!r})"

    def without(self, names: Iterable[str]) -> Fields:
        """These fields less every line whose lower-case name is in `names`."""
        pick, rest = self.named.without(frozenset(names))
        return Fields.sent(pick(self.texts), rest)

    def where(self, keep: Callable[[str, str], bool]) -> Fields:
        """The lines for which `keep(lower_name, value)` holds."""
        return Fields(line for line in self.lines if keep(line[0].lower(), line[1]))

    def plus(self, *lines: FieldLine) -> Fields:
        """These fields with `lines` behind them."""
        return self.joined(Fields(lines))

    def joined(self, more: Fields) -> Fields:
        """These fields with those of `more` behind them."""
        return Fields.sent(self.texts + more.texts, self.named.plus(more.named.as_sent))

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
        return "\r\n".join(self.texts) + "\r\n" if self.texts else ""


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
