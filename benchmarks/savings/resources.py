"""What the origin has: resources, their versions, and where a request finds them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from benchmarks.savings.bodies import Body

TRACKING = re.compile(r"utm_[a-z]+|fbclid|gclid")


@dataclass(frozen=True)
class Resource:
    """One resource of the origin and how it answers for it."""

    path: str
    size: int
    control: str = "max-age=86400"
    text: bool = False
    """Compressible, and served in br or gzip to whoever asks, with Vary: Accept-Encoding."""
    languages: bool = False
    """Has a body for each first tag of Accept-Language, and says so in Vary."""
    personal: str = ""
    """The field that the body depends on, e.g. Authorization."""
    etag: bool = True
    modified: bool = True
    fields: tuple[tuple[str, str], ...] = ()
    status: int = 200
    rate: int = 0
    """Bytes per second on each connection; 0: as fast as it goes."""
    body_name: str = ""
    """Aliases share it, and with it bytes, ETag and Repr-Digest."""
    drop_at: int = 0
    """The first answer breaks off after this many body bytes."""
    cookies: bool = False
    """Every answer sets another cookie."""
    current: bool = False
    """A client must never see an older version than the origin has (max-age=0, no-cache)."""

    @property
    def label(self) -> str:
        """The first segment of the path, under which the bytes are counted."""
        return self.path.split("/")[1]

    def body(self, version: int, variant: str = "") -> Body:
        """The representation without content coding; `variant` is what the request selected."""
        key = f"{self.body_name or self.path}|{version}|{variant}"
        return Body(key, self.size, self.text)

    def variant(self, query: str, fields: dict[str, str]) -> str:
        """What of the request, beside the path, selects the representation."""
        parts = [f"{name}={value}" for name, value in parse_qsl(query, True) if not TRACKING.fullmatch(name)]
        if self.languages:
            parts.append("lang=" + fields.get("accept-language", "").split(",")[0].split(";")[0].strip())
        if self.personal:
            parts.append("for=" + fields.get(self.personal.lower(), ""))
        return "&".join(parts)


def entity_tag(body: Body, coding: str) -> str:
    """A strong entity tag; every coding has its own (RFC 9110 §8.8.3.3)."""
    name = hashlib.sha256(body.key.encode()).hexdigest()[:16]
    return f'"{name}-{coding}"' if coding else f'"{name}"'


@dataclass
class Catalogue:
    """Resources by path, and the version that each has now. `/t/ID/SIZE` needs no entry."""

    resources: dict[str, Resource] = field(default_factory=dict)
    versions: Counter[str] = field(default_factory=Counter)

    def add(self, resources: Iterable[Resource]) -> None:
        self.resources.update((one.path, one) for one in resources)

    def find(self, path: str) -> Resource | None:
        found = self.resources.get(path)
        if found is None and path.startswith("/t/"):
            return Resource(path, int(path.rsplit("/", 1)[1]), modified=False)
        return found

    def change(self, resource: Resource) -> None:
        """From now on the origin has another version of it."""
        self.versions[resource.path] += 1

    def version(self, resource: Resource) -> int:
        return self.versions[resource.path]
