"""Named sets of rules for what an office downloads again and again.

Longer lifetimes only for paths that hold a hash or a version; what lists such files is kept shorter than
the heuristic would, so that no client sees a new list beside old files. Ranges need no rule: they are
stored and filled for every host. Which paths a service uses is held by tests/policy/test_presets.py, with
response heads of the kind that it sends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cacheproxy.policy.rules import Rule

_MINUTE, _DAY = 60.0, 86400.0
_QUARTER, _YEAR = 90 * _DAY, 365 * _DAY
_HEX = "[0-9A-Fa-f]"
_MD5, _SHA1, _SHA256 = _HEX * 32, _HEX * 40, _HEX * 64
_GUID = "-".join(_HEX * length for length in (8, 4, 4, 4, 12))


@dataclass(frozen=True, slots=True)
class Preset:
    """A summary for `config check`; the hosts it is for (`*`: any, the paths tell); the rules, hostless."""

    summary: str
    hosts: tuple[str, ...]
    rules: tuple[Rule, ...]


def _kept(glob: str | None = None, *, unchanging: bool = False, signed: tuple[str, ...] | None = None) -> Rule:
    # The maximum is there to win over that of a list of files, whose pattern may fit as well.
    return Rule(
        glob=glob,
        unchanging=unchanging,
        min_lifetime_s=_QUARTER,
        max_lifetime_s=_YEAR,
        ignore_reload=True,
        signed_query=signed,
    )


def _kept_by_name(glob: str | None = None) -> Rule:
    return _kept(glob, unchanging=True)


def _lists(glob: str, seconds: float = 2 * _MINUTE) -> Rule:
    return Rule(glob=glob, max_lifetime_s=seconds)


def _apt(tree: str) -> tuple[Rule, ...]:
    lists = ("InRelease", "Release", "Release.gpg", "Packages*", "Sources*", "Contents-*", "Translation-*")
    return (
        _kept_by_name(f"*/{tree}/pool/*"),
        _kept_by_name(f"*/{tree}/dists/*/by-hash/*"),
        *(_lists(f"*/{tree}/dists/*/{name}") for name in lists),
    )


PRESETS: dict[str, Preset] = {
    "debian": Preset(
        "Debian packages (pool/) and by-hash indexes stay fresh for 90 days, other indexes for 2 minutes at most",
        ("*",),
        _apt("debian*"),
    ),
    "ubuntu": Preset(
        "Ubuntu packages (pool/, PPAs too) and by-hash indexes stay fresh for 90 days, other indexes for"
        " 2 minutes at most",
        ("*",),
        _apt("ubuntu*"),
    ),
    "fedora": Preset(
        "RPM packages and hash-named metadata of Fedora, EPEL and their like stay fresh for 90 days, repomd.xml and"
        " mirror lists for 2 minutes at most",
        ("*",),
        (
            _kept_by_name("*.rpm"),
            _kept_by_name("*.drpm"),
            _kept_by_name("*/repodata/*-*"),
            _lists("*/repodata/repomd.xml*"),
            _lists("*/metalink?*"),
            _lists("*/mirrorlist?*"),
        ),
    ),
    "windows-update": Preset(
        "Windows update files with a hash or a file id in their path stay fresh for 90 days; the signature in a"
        " delivery link is left out of the key",
        (".windowsupdate.com", ".update.microsoft.com", ".delivery.mp.microsoft.com"),
        (
            _kept(f"*/msdownload/update/*_{_SHA1}.*"),
            _kept(f"*/filestreamingservice/files/{_GUID}*", signed=("P1", "P2", "P3", "P4")),
        ),
    ),
    "office-update": Preset(
        "Office update files below a version stay fresh for 90 days, the lists of versions for 10 minutes at most",
        ("officecdn.microsoft.com", "officecdn.microsoft.com.edgesuite.net", ".cdn.office.net"),
        (
            *(
                _kept(f"*/{folder}/[0-9][0-9].[0-9]*.[0-9]*.[0-9]*/*")
                for folder in ("Office/Data", "office/data")
            ),
            *(_lists(f"*/{folder}/v[36][24].cab", 10 * _MINUTE) for folder in ("Office/Data", "office/data")),
        ),
    ),
    "steam": Preset(
        "Steam depot chunks, named by their hash, stay fresh for 90 days whatever token the link carries",
        (".steamcontent.com", "steampipe.akamaized.net", "steampipe-kr.akamaized.net"),
        (
            _kept(f"*/depot/*/chunk/{_SHA1}", signed=("*",)),
            _kept(f"*/depot/*/chunk/{_SHA1}[?]*", signed=("*",)),
        ),
    ),
    "game-cdn": Preset(
        "Epic, Blizzard, Riot, PlayStation and Xbox content named by hash or version stays fresh for 90 days",
        (
            ".epicgames.com",
            ".epicgamescdn.com",
            "epicgames-download1.akamaized.net",
            ".blizzard.com",
            "blzddist1-a.akamaihd.net",
            ".riotcdn.net",
            ".dl.playstation.net",
            ".xboxlive.com",
        ),
        (
            _kept(f"*/Chunks*/[0-9][0-9]/{_HEX * 16}_{_HEX * 32}.chunk"),
            _kept(f"*/tpr/*/{_HEX * 2}/{_HEX * 2}/{_MD5}"),
            _kept(f"*/tpr/*/{_HEX * 2}/{_HEX * 2}/{_MD5}.index"),
            _kept(f"*/channels/public/bundles/{_HEX * 16}.bundle"),
            _kept(f"*/f_{_SHA256}/*"),
            _kept(f"*/[0-9]*.[0-9]*.[0-9]*.[0-9]*.{_GUID}/*"),
        ),
    ),
    "antivirus": Preset(
        "numbered ClamAV differences, ESET modules and hash-named Sophos files stay fresh for 90 days, ClamAV's"
        " databases for 10 minutes at most",
        ("database.clamav.net", ".eset.com", ".sophosupd.com", ".sophosupd.net"),
        (
            *(_kept(f"*/{name}-[0-9]*[0-9].cdiff") for name in ("main", "daily", "bytecode")),
            *(_lists(f"*/{name}.c[vl]d", 10 * _MINUTE) for name in ("main", "daily", "bytecode")),
            _kept("*/mod_[0-9][0-9][0-9]_*_[0-9]*/*.nup"),
            _kept_by_name(),
        ),
    ),
}


def preset_rules(name: str, host: str | None = None) -> tuple[Rule, ...]:
    """The rules of a preset; `host` puts a mirror of one's own in the place of its hosts. Raises KeyError."""
    preset = PRESETS[name]
    hosts = preset.hosts if host is None else (host,)
    return tuple(
        replace(rule, host=None if one == "*" else one, preset=name) for one in hosts for rule in preset.rules
    )
