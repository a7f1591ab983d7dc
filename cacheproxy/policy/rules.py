"""The operator's `[[rules]]`: exceptions for hosts and URLs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cacheproxy.http.uri import TargetUri


@dataclass(frozen=True, slots=True)
class Rule:
    """Applies where every given condition holds; a value of None leaves the setting as it is."""

    host: str | None = None
    glob: str | None = None
    first_byte_timeout_s: float | None = None
    idle_timeout_s: float | None = None

    def applies(self, target: TargetUri) -> bool:
        """Whether the rule is about this target URI."""
        if self.host is not None and not fnmatchcase(target.origin.host, self.host.lower()):
            return False
        return self.glob is None or fnmatchcase(str(target), self.glob)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for an origin: for the first byte, and between two pieces of body."""

    first_byte_s: float
    idle_s: float


def timeouts_for(target: TargetUri, rules: Sequence[Rule], default: Timeouts) -> Timeouts:
    """The time-outs of a target: the first rule that applies and sets one wins."""
    first_byte = idle = None
    for rule in rules:
        if rule.applies(target):
            first_byte = rule.first_byte_timeout_s if first_byte is None else first_byte
            idle = rule.idle_timeout_s if idle is None else idle
    return Timeouts(
        default.first_byte_s if first_byte is None else first_byte, default.idle_s if idle is None else idle
    )
