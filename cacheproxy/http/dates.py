"""HTTP dates <-> epoch seconds (RFC 9110 §5.6.7). Strict: what does not match one of the three forms is None."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_MON = f"(?P<month>{'|'.join(_MONTHS)})"
_DAYS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
# Names are matched in any case: senders vary it, and no other reading is possible.
_IMF = re.compile(
    rf"(?:{_DAYS}), (?P<day>[0-9]{{2}}) {_MON} (?P<year>[0-9]{{4}}) {_TIME} GMT", re.IGNORECASE | re.ASCII
)
_IMF_LENGTH = 29
_RFC850 = re.compile(
    r"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday), "
    rf"(?P<day>[0-9]{{2}})-{_MON}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
    re.IGNORECASE | re.ASCII,
)
_ASCTIME = re.compile(
    rf"(?:{_DAYS}) {_MON} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})", re.IGNORECASE | re.ASCII
)


def parse_date(text: str, now: float) -> int | None:
    """Epoch seconds of an HTTP date in any of its three forms, None if it is none of them.

    `now` places the two-digit year of the obsolete RFC 850 form: never more than 50 years ahead.
    """
    if len(text) == _IMF_LENGTH:
        # The usual form, and its meaning does not depend on `now`: the same second comes again and again.
        return _parse_imf(text)
    match = _ASCTIME.fullmatch(text)
    if match is not None:
        year = int(match["year"])
    else:
        match = _RFC850.fullmatch(text)
        if match is None:
            return None
        today = datetime.fromtimestamp(now, UTC)
        year = today.year - today.year % 100 + int(match["year"])
        # RFC 9110 §5.6.7: more than 50 years in the future means the most recent past.
        at = (
            _MONTH[match["month"].lower()],
            *(int(match[part]) for part in ("day", "hour", "minute", "second")),
        )
        if (year, *at) > (today.year + 50, *today.timetuple()[1:6]):
            year -= 100
    return _moment(match, year)


@lru_cache(4096)
def _parse_imf(text: str) -> int | None:
    match = _IMF.fullmatch(text)
    return None if match is None else _moment(match, int(match["year"]))


def _moment(match: re.Match[str], year: int) -> int | None:
    second = int(match["second"])
    if second > 60:
        return None
    try:
        # A leap second (60) is valid in the grammar; it counts as the second before.
        moment = datetime(
            year,
            _MONTH[match["month"].lower()],
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            min(second, 59),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return timegm(moment.timetuple())


def format_date(at: float) -> str:
    """`at` (epoch seconds) in the preferred form, e.g. `Sun, 06 Nov 1994 08:49:37 GMT`."""
    return formatdate(int(at), usegmt=True)
