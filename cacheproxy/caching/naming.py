"""What a name tells: which parts of a query only track, and which files never change by construction.

Nothing is guessed: a query parameter goes only if it is listed, a file counts as unchanging only if its
name holds its version or its hash in a form that publishers never use twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cacheproxy.http.uri import TargetUri

TRACKING = ("utm_*", "fbclid", "gclid")
"""Query parameters that say where a visitor came from, and that no server needs to choose an answer."""

ALL_PARAMETERS = "*"
_SIGNATURES = frozenset({"hdnea", "hdntl", "hdnts", "hmac", "sig", "st"})


@dataclass(frozen=True, slots=True)
class Place:
    """The URI to fetch and the key to store under: equal but for parameters that sign a link."""

    target: TargetUri
    key: str


def without_parameters(target: TargetUri, names: Sequence[str]) -> TargetUri:
    """`target` less the query parameters called `names` (a `*` at the end stands for any rest).

    All else stays byte for byte: order, empty parameters, escapes, the case of names. A query that loses
    all its parameters goes with its question mark.
    """
    path, mark, query = target.path_and_query.partition("?")
    if not mark or not names:
        return target
    parameters = query.split("&")
    kept = [one for one in parameters if not _is_listed(one.partition("=")[0], names)]
    if len(kept) == len(parameters):
        return target
    return TargetUri(target.origin, f"{path}?{'&'.join(kept)}" if kept else path)


def _is_listed(name: str, names: Sequence[str]) -> bool:
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in names)


def is_signed(target: TargetUri) -> bool:
    """Whether a parameter signs the link: origins refuse it once any other parameter is gone."""
    query = target.path_and_query.partition("?")[2]
    for parameter in query.split("&"):
        name = parameter.partition("=")[0].lower()
        if "signature" in name or name in _SIGNATURES:
            return True
    return False


def place(
    target: TargetUri,
    dropped: Sequence[str] = TRACKING,
    ignored: Sequence[str] = (),
    signing: Sequence[str] = (),
) -> Place:
    """Where a GET or HEAD of `target` is fetched and stored.

    `dropped` (tracking, the operator's list) and `ignored` (a rule's) leave the key and the request alike:
    the URL fetched is the URL of the key, so nobody can make the origin reflect a parameter into an answer
    that others get. Tracking stays where the link is signed. `signing` (a rule's) leaves the key only: the
    operator vouches that such parameters never change the answer.
    """
    if "?" not in target.path_and_query:
        return Place(target, str(target))
    names = [*ignored, *dropped] if not is_signed(target) else ignored
    fetched = without_parameters(target, names)
    return Place(fetched, str(without_parameters(fetched, signing)))


_HEX = r"[0-9a-f]"
_VERSION = r"v?[0-9]+(?:\.[0-9]+)+(?:[._-]?(?:a|b|c|rc|alpha|beta|pre|post)[._-]?[0-9]*)?"
_PEP440 = r"(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?"
_TARBALL = r"\.(?:tar\.(?:gz|bz2|xz|lz|zst)|tgz|tbz2|txz|zip)"
_ARCHITECTURES = (
    "aarch64|armv[567]\\w*|i[3-6]86|loongarch64|noarch|nosrc|ppc64|ppc64le|riscv64|s390x|src|x86_64|x86_64_v2"
)
_UNCHANGING = tuple(
    re.compile(pattern + r"\Z", re.ASCII)
    for pattern in (
        # Debian Policy §3.2, §5.6.12: name_version[_architecture]; an archive never takes a version twice.
        r"/(?:.*/)?pool/(?:[^/]+/)+[^/_]+_[0-9][^/_]*(?:_[a-z0-9-]+)?\.(?:d|ud|dd)eb",
        r"/(?:.*/)?pool/(?:[^/]+/)+[^/_]+_[0-9][^/_]*\.(?:dsc|diff\.gz|tar\.(?:gz|bz2|xz|lzma|zst))",
        # Debian repository format, Acquire-By-Hash.
        rf"/(?:.*/)?by-hash/(?:MD5Sum/{_HEX}{{32}}|SHA1/{_HEX}{{40}}|SHA256/{_HEX}{{64}}|SHA512/{_HEX}{{128}})",
        # PyPI: two, two and 60 digits of the file's BLAKE2b.
        rf"/packages/{_HEX}{{2}}/{_HEX}{{2}}/{_HEX}{{60}}/[^/]+",
        # PEP 427; a local or development version may be built again.
        rf"/(?:.*/)?[A-Za-z0-9][\w.]*-{_PEP440}(?:-[0-9]\w*)?-[\w.]+-[\w.]+-[\w.]+\.whl",
        rf"/(?:.*/)?[A-Za-z][\w.+-]*[-_]{_VERSION}{_TARBALL}",
        # npm: a published version is never replaced.
        r"/(?:@[^/]+/|@[^/]+%2[fF])?[^/]+/-/[^/]+-[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?\.tgz",
        rf"/(?:.*/)?[A-Za-z0-9][\w.+-]*-[0-9][\w.+~^]*-[0-9][\w.+~^]*\.(?:{_ARCHITECTURES})\.d?rpm",
        # A hash beside a stem (app.<hash>.js, <hash>-primary.xml.gz); alone it must be longer than an MD5
        # or a UUID, which serve as numbers of things that do change.
        rf"/(?:.*/)?[\w~-][\w.~-]*[._-]{_HEX}{{32,128}}\.[A-Za-z0-9.]{{1,12}}",
        rf"/(?:.*/)?{_HEX}{{32,128}}[._-][\w.~-]*[A-Za-z][\w~-]*\.[A-Za-z0-9.]{{1,12}}",
        rf"/(?:.*/)?{_HEX}{{40,128}}\.[A-Za-z0-9.]{{1,12}}",
        # OCI distribution: content-addressed.
        rf"/(?:.*/)?sha256:{_HEX}{{64}}",
    )
)
# What lists other files, or is made on demand, whatever else its name says.
_LISTS = re.compile(
    r"/(?:InRelease|Release(?:\.gpg)?|(?:Packages|Sources|Contents|Translation|Index|Components)[^/]*"
    r"|repomd\.xml[^/]*|metalink[^/]*|mirrorlist[^/]*|index\.[^/]+|[^/]*\.(?:html?|xhtml|php[0-9]?|aspx?|jsp|cgi))\Z"
    r"|/simple/|/archive/|/tarball/|/zipball/|/-/archive/|/api/|/cgi-bin/",
    re.ASCII,
)
_BY_HASH = re.compile(r"/by-hash/[A-Za-z0-9]+/[0-9a-f]+\Z")
# Names that are given to something new from time to time.
_MOVING = re.compile(
    r"(?:\A|[/._+~-])(?:latest|current|nightly|snapshots?|daily|weekly|unstable|head|master|trunk)(?:[/._+~-]|\Z)",
    re.ASCII | re.IGNORECASE,
)
_DEBIAN = re.compile(r"/pool/.*\.(?:u?d?deb|dsc|diff\.gz|tar\.[a-z0-9]+)\Z")
_HASHED = re.compile(r"[0-9a-f]{32,}")
_MAX_LENGTH = 1024
_MAX_NAME_LENGTH = 255


def never_changes(path: str, query: str | None = None) -> bool:
    """Whether a file's name promises that its bytes never change; False where a query says more."""
    if query is not None or len(path) > _MAX_LENGTH or len(path) - path.rfind("/") > _MAX_NAME_LENGTH:
        return False
    if _LISTS.search(path) and not _BY_HASH.search(path):
        return False
    if not any(pattern.match(path) for pattern in _UNCHANGING):
        return False
    hashed = _HASHED.findall(path)
    if hashed:
        # A number of 32 digits, or a word of letters, is no hash.
        return any(not run.isdigit() and not run.isalpha() for run in hashed)
    # In Debian's pool a package may well be called master or current: its version tells.
    return bool(_DEBIAN.search(path)) or not _MOVING.search(path)


def lifetime_by_name(path: str, query: str | None, longest_s: float) -> float | None:
    """Seconds that a response without a lifetime of its own may be fresh for its name's sake; None: no word.

    Part of the heuristic that RFC 9111 §4.2.2 leaves to the cache. `path` as in the target, `query` None
    where it has no question mark.
    """
    return longest_s if longest_s > 0 and never_changes(path, query) else None
