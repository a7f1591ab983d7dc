"""Counters of several processes as one."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

from cacheproxy.telemetry.counters import Counters

Values = dict[str, int | dict[str, int]]


def values_of(counters: Counters) -> Values:
    """Every count as a plain value, for another process."""
    found: Values = {}
    for field in fields(counters):
        value = getattr(counters, field.name)
        if isinstance(value, Counter):
            found[field.name] = dict(value)
        elif isinstance(value, int):
            found[field.name] = value
    return found


def add(total: Counters, values: Values) -> None:
    """Add what another process has counted."""
    for name, value in values.items():
        if isinstance(value, dict):
            getattr(total, name).update(value)
        else:
            setattr(total, name, getattr(total, name) + value)
