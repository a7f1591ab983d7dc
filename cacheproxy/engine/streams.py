"""Body streams: async iterators of pieces that must be closed."""

from __future__ import annotations

from collections.abc import AsyncIterator


async def next_piece(stream: AsyncIterator[bytes]) -> bytes:
    """The next piece; empty at the end. (`anext` with a default leaves a cancelled generator marked as running.)"""
    try:
        return await anext(stream)
    except StopAsyncIteration:
        return b""


async def close_stream(stream: AsyncIterator[bytes] | None) -> None:
    """Close a body stream, started or not."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
