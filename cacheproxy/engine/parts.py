"""What the engine works with: its ports and the options of this site, put together by the app."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cacheproxy.caching.abandonment import AbandonOptions
from cacheproxy.caching.options import CachingOptions
from cacheproxy.engine.spool import SpoolBudget
from cacheproxy.policy.access import AccessPolicy
from cacheproxy.policy.rules import Rule, Timeouts
from cacheproxy.ports import Clock, Recorder, Store, Upstream


@dataclass(slots=True)
class Parts:
    """Ports and options; nothing here is built by the engine itself."""

    store: Store
    upstream: Upstream
    clock: Clock
    recorder: Recorder
    monotonic: Callable[[], float]
    access: AccessPolicy
    caching: CachingOptions
    via: str
    timeouts: Timeouts
    rules: Sequence[Rule] = ()
    abandon: AbandonOptions = field(default_factory=AbandonOptions)
    spools: SpoolBudget = field(default_factory=SpoolBudget)
    keep_bytes: int = 4 * 1024 * 1024
    join_gap_bytes: int = 1024 * 1024
    # Content codings that are asked for in clients' stead, the best first; none: never.
    codings: tuple[str, ...] = ("zstd", "br", "gzip")
    decoded_bytes: int = 1024 * 1024 * 1024
    absolute_https: bool = True
    unshareable_s: float = 30.0
    unshareable_keys: int = 10_000
