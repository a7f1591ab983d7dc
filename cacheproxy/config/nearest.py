"""The known name that somebody may have meant."""

from __future__ import annotations

from difflib import get_close_matches


def nearest(name: str, known: tuple[str, ...]) -> str:
    """`; did you mean 'x'?` for the closest of `known`, by its last part if need be; else nothing."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if not close:
        tails = {one.rpartition(".")[2]: one for one in known}
        tail = get_close_matches(name.rpartition(".")[2], tuple(tails), n=1, cutoff=0.6)
        close = [tails[tail[0]]] if tail else []
    return f"; did you mean {close[0]!r}?" if close else ""
