"""The names of a head's field lines, worked out once: most heads have the names of many others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from operator import itemgetter
from typing import Any

_KNOWN_BYTES = 8 * 1024 * 1024
# About what names take, with all that is derived from them: so much, and so much for each line.
_BASE, _LINE = 500, 400
# What a head's names may take to be remembered, in characters.
_LONGEST = 1024
_MOST_LINES = 64
_MAX_DERIVED = 4
# What is dropped or added, in names and in characters, for the outcome to be remembered: what a message names may be long.
_FEW, _SHORT = 16, 256

Pick = Callable[[Sequence[Any]], tuple[Any, ...]]
"""Of a sequence in the order of the lines, what belongs to those that stay."""


class Names:
    """The names of field lines in order. Made by `names_of`: what has the same names in the same order shares it."""

    __slots__ = (
        "_extended",
        "_picks",
        "_reduced",
        "as_sent",
        "at",
        "beginnings",
        "has_connection",
        "is_long",
        "line_ends",
        "lower",
        "passing",
        "sole_connection",
        "sole_length",
        "starts",
    )

    def __init__(self, as_sent: tuple[str, ...]) -> None:
        self.as_sent = as_sent
        self.starts = tuple([len(name) + len(": ") for name in as_sent])
        """Where the value begins in each line."""
        self.beginnings = ("HTTP/", *[f"{name}: " for name in as_sent])
        """What the lines of a response's head begin with."""
        self.line_ends = b"\r\n" * len(as_sent)
        """What is between them."""
        at: dict[str, tuple[int, ...]] = {}
        for place, name in enumerate(as_sent):
            lower = name.lower()
            at[lower] = (*at.get(lower, ()), place)
        self.at = at
        """The places of the lines of each name, in lower case."""
        self.lower = tuple(at)
        """Each name once, in lower case."""
        self.is_long = len(as_sent) > _MOST_LINES or sum(map(len, as_sent)) > _LONGEST
        """Whether they take too much to be remembered."""
        lengths = at.get("content-length", ())
        self.sole_length = lengths[0] if len(lengths) == 1 and "transfer-encoding" not in at else -1
        """The place of Content-Length where nothing else frames the body; else -1."""
        self.has_connection = "connection" in at or "proxy-connection" in at
        """Whether a line says something of the connection."""
        connections = at.get("connection", ())
        self.sole_connection = connections[0] if len(connections) == 1 and "proxy-connection" not in at else -1
        """The place of Connection where no other line says anything of it; else -1."""
        self.passing: dict[tuple[str, ...], tuple[Pick, Names] | None] = {}
        """By what Connection says: which lines go on to the next hop; None: all. Filled by `forwarding`."""
        self._reduced: dict[frozenset[str], tuple[Pick, Names]] = {}
        self._extended: dict[tuple[str, ...], Names] = {}
        self._picks: dict[frozenset[str], Pick] = {}

    def without(self, drop: frozenset[str]) -> tuple[Pick, Names]:
        """What takes the lines that stay where those with names in `drop` (lower case) go, and their names."""
        known = self._reduced.get(drop)
        if known is None:
            stay = [place for place, name in enumerate(self.as_sent) if name.lower() not in drop]
            pick = _picking(stay)
            known = pick, names_of(pick(self.as_sent))
            if self._may_remember(drop):
                if len(self._reduced) >= _MAX_DERIVED:
                    self._reduced.clear()
                self._reduced[drop] = known
        return known

    def picking(self, wanted: frozenset[str]) -> Pick:
        """What takes the lines with names in `wanted` (lower case)."""
        known = self._picks.get(wanted)
        if known is None:
            known = _picking([place for place, name in enumerate(self.as_sent) if name.lower() in wanted])
            if self._may_remember(wanted):
                if len(self._picks) >= _MAX_DERIVED:
                    self._picks.clear()
                self._picks[wanted] = known
        return known

    def plus(self, more: tuple[str, ...]) -> Names:
        """These, and `more` behind them."""
        known = self._extended.get(more)
        if known is None:
            known = names_of(self.as_sent + more)
            if self._may_remember(more):
                if len(self._extended) >= _MAX_DERIVED:
                    self._extended.clear()
                self._extended[more] = known
        return known

    def _may_remember(self, names: Collection[str]) -> bool:
        """Whether what comes of these names and `names` is small; then it is counted."""
        if self.is_long or len(names) > _FEW or sum(map(len, names)) > _SHORT:
            return False
        _memo.charge(_BASE)
        return True


def _picking(places: list[int]) -> Pick:
    if len(places) > 1:
        return itemgetter(*places)
    # Of one place `itemgetter` gives no tuple, of none it is an error.
    return lambda lines: tuple([lines[place] for place in places])


class _Memo:
    def __init__(self) -> None:
        self.known: dict[tuple[str, ...], Names] = {}
        self.bytes = 0

    def learn(self, as_sent: tuple[str, ...]) -> Names:
        names = Names(as_sent)
        if not names.is_long:
            self.charge(_BASE + _LINE * len(as_sent))
            self.known[as_sent] = names
        return names

    def charge(self, size: int) -> None:
        """So much is about to be remembered."""
        if self.bytes + size > _KNOWN_BYTES:
            self.known.clear()
            self.bytes = 0
        self.bytes += size


_memo = _Memo()


def names_of(as_sent: tuple[str, ...]) -> Names:
    """The names of field lines. Remembered within bounds."""
    return _memo.known.get(as_sent) or _memo.learn(as_sent)
