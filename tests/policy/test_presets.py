"""Presets, held by response heads of the kind that each service sends.

`kept`: fresh for 90 days at least, reloads included; `listed`: no longer than the list's limit; `left`: as
without the preset.
"""

# ruff: noqa: E501 - a recorded head is one line, to be read beside its URL

from __future__ import annotations

import pytest

from cacheproxy.caching import reuse, storing
from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.options import CachingOptions
from cacheproxy.caching.partial import Parts, plan
from cacheproxy.http.cache_control import PLAIN_REQUEST, RequestDirectives
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.uri import parse_absolute
from cacheproxy.http.validators import is_strong
from cacheproxy.policy.presets import PRESETS, preset_rules
from cacheproxy.policy.rules import overrides_from, placed
from tests.caching.build import NOW, at, fields

MINUTE, DAY = 60, 86400
MD5, SHA1, SHA256 = "0123456789abcdef" * 2, "4f1c" * 10, "9e3d" * 16
GUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
MONTH_OLD = f"Last-Modified: {at(-30 * DAY)}"

DEBIAN = "Server: Apache | X-Clacks-Overhead: GNU Terry Pratchett | Accept-Ranges: bytes | Via: 1.1 varnish | X-Served-By: cache-fra"
UBUNTU = "Server: Apache/2.4.52 (Ubuntu) | Accept-Ranges: bytes"
FEDORA = "Server: Apache/2.4.37 | Accept-Ranges: bytes | AppTime: D=265 | X-Fedora-ProxyServer: proxy10.iad2"
WINDOWS = "Server: Microsoft-IIS/10.0 | X-CID: 7 | X-CCC: DE | MSRegion: EMEA | Accept-Ranges: bytes | Content-Type: application/octet-stream"
OFFICE = (
    "Server: ECAcc (frc/4C9F) | X-Cache: HIT | Accept-Ranges: bytes | Content-Type: application/octet-stream"
)
STEAM = "Server: nginx | X-Content-Type-Options: nosniff | Accept-Ranges: bytes | Content-Type: application/x-steam-chunk"
AKAMAI = "Server: AkamaiNetStorage | Accept-Ranges: bytes | Connection: keep-alive"
CLAMAV = "Server: cloudflare | CF-Cache-Status: HIT | CF-RAY: 8f-FRA | Accept-Ranges: bytes"

KEPT = [
    ("debian", "http://deb.debian.org/debian/pool/main/c/curl/curl_7.88.1-10+deb12u8_amd64.deb",
     f'{DEBIAN} | Content-Type: application/vnd.debian.binary-package | ETag: "4d2e4-61f1" | {MONTH_OLD} | Cache-Control: public, max-age=2592000'),
    ("debian", "http://security.debian.org/debian-security/pool/updates/main/o/openssl/libssl3_3.0.15-1~deb12u1_amd64.deb",
     f'{DEBIAN} | Content-Type: application/x-debian-package | ETag: "1e8-62a" | {MONTH_OLD}'),
    ("debian", f"http://deb.debian.org/debian/dists/sid/main/binary-amd64/Packages.diff/by-hash/SHA256/{SHA256}",
     f'{DEBIAN} | ETag: "a-1" | {MONTH_OLD} | Cache-Control: public, max-age=2592000'),
    ("debian", "http://mirror.example/pub/debian/pool/main/h/hello/hello_2.10-3.dsc", 'Server: nginx | Content-Type: text/plain | ETag: "64-7" | Accept-Ranges: bytes'),
    ("ubuntu", "http://archive.ubuntu.com/ubuntu/pool/main/b/bash/bash_5.1-6ubuntu1.1_amd64.deb",
     f'{UBUNTU} | Content-Type: application/vnd.debian.binary-package | ETag: "bb3c2-5f2" | {MONTH_OLD}'),
    ("ubuntu", "http://ports.ubuntu.com/ubuntu-ports/pool/main/b/bash/bash_5.1-6ubuntu1.1_arm64.deb", f'{UBUNTU} | ETag: "bb-5" | {MONTH_OLD}'),
    ("ubuntu", "http://ppa.launchpadcontent.net/o/p/ubuntu/pool/main/t/tool/tool_1.0~22.04_amd64.deb",
     f'{UBUNTU} | ETag: "c3-9" | {MONTH_OLD} | Cache-Control: max-age=3600 | Content-Type: application/x-debian-package'),
    ("fedora", "http://dl.fedoraproject.org/pub/fedora/linux/updates/40/Everything/x86_64/Packages/b/bash-5.2.26-3.fc40.x86_64.rpm",
     f'{FEDORA} | Content-Type: application/x-rpm | ETag: "1c8f-616" | {MONTH_OLD}'),
    ("fedora", f"http://mirror.example/fedora/updates/40/repodata/{SHA256}-primary.xml.gz", f'Server: nginx | Accept-Ranges: bytes | Content-Type: application/octet-stream | ETag: "66-1" | {MONTH_OLD}'),
    ("windows-update", f"http://download.windowsupdate.com/c/msdownload/update/software/secu/2024/05/windows10.0-kb5037771-x64_{SHA1}.cab",
     f'{WINDOWS} | ETag: "80d4a1f5bca1da1:0" | {MONTH_OLD} | Cache-Control: public,max-age=172800'),
    ("windows-update", f"http://9.tlu.dl.delivery.mp.microsoft.com/filestreamingservice/files/{GUID}?P1=1717000000&P2=404&P3=2&P4=c2ln%3d%3d",
     f'{WINDOWS} | ETag: "7g9hXk1Q=" | {MONTH_OLD} | Cache-Control: public, max-age=17280000'),
    ("office-update", "http://officecdn.microsoft.com/pr/492350f6-3a01-4f97-b9c0-c7c6ddf67d60/Office/Data/16.0.17628.20110/stream.x64.x-none.dat",
     f'{OFFICE} | ETag: "0x8DC8A1" | {MONTH_OLD} | Cache-Control: public, max-age=604800'),
    ("office-update", "http://f.c2r.ts.cdn.office.net/pr/492350f6-3a01-4f97-b9c0-c7c6ddf67d60/office/data/16.0.17628.20110/i640.cab",
     f'{OFFICE} | ETag: "0x8DC8A2" | {MONTH_OLD}'),
    ("steam", f"http://cache3-fra1.steamcontent.com/depot/228990/chunk/{SHA1}",
     f'{STEAM} | ETag: "{SHA1[:12]}" | Cache-Control: public,max-age=31536000 | Expires: {at(31536000)} | {MONTH_OLD}'),
    ("steam", f"http://steampipe.akamaized.net/depot/441/chunk/{SHA1}?token=exp=17~hmac=ab", f'{STEAM} | ETag: "a1" | Cache-Control: public,max-age=600'),
    ("game-cdn", f"http://download.epicgames.com/Builds/Fortnite/CloudDir/ChunksV4/25/{'0A1B' * 4}_{MD5.upper()}.chunk",
     f'{AKAMAI} | Content-Type: binary/octet-stream | ETag: "{MD5}" | {MONTH_OLD} | Cache-Control: max-age=86400'),
    ("game-cdn", f"http://level3.blizzard.com/tpr/wow/data/01/23/{MD5}",
     f'Server: Footprint 4.6 | Accept-Ranges: bytes | Content-Type: application/octet-stream | ETag: "{MD5}" | {MONTH_OLD} | Cache-Control: max-age=1209600'),
    ("game-cdn", "http://lol.dyn.riotcdn.net/channels/public/bundles/00E1A2B3C4D5E6F7.bundle",
     f'{AKAMAI} | Content-Type: application/octet-stream | ETag: "5d41" | {MONTH_OLD} | Cache-Control: public, max-age=86400'),
    ("game-cdn", f"http://gs2.ww.prod.dl.playstation.net/gs2/ppkgo/prod/CUSA00001_00/5/f_{SHA256}/f/EP0001-CUSA00001_00-GAME_0.pkg",
     f'{AKAMAI} | Content-Type: application/octet-stream | ETag: "9e-1" | {MONTH_OLD}'),
    ("game-cdn", f"http://assets1.xboxlive.com/Z/{GUID}/{GUID}/1.0.0.12.{GUID}/Game_1.0.0.12_x64__8wekyb3d8bbwe",
     f'{WINDOWS} | ETag: "0x8D9" | {MONTH_OLD} | Cache-Control: public, max-age=2592000'),
    ("antivirus", "http://database.clamav.net/daily-27300.cdiff", f'{CLAMAV} | Content-Type: application/octet-stream | ETag: "66-1a" | {MONTH_OLD} | Cache-Control: max-age=14400'),
    ("antivirus", "http://update.eset.com/v3-rel-sta/mod_002_engine_28547/em002_64_l0.nup",
     f'Server: nginx | Accept-Ranges: bytes | Content-Type: application/octet-stream | ETag: "65f-3" | {MONTH_OLD}'),
    ("antivirus", f"http://d1.sophosupd.com/update/{MD5}-x000.dat", f'{AKAMAI} | ETag: "{MD5}:17" | {MONTH_OLD} | Cache-Control: max-age=3600'),
]  # fmt: skip

LISTED = [
    ("debian", "http://deb.debian.org/debian/dists/bookworm/InRelease", f'{DEBIAN} | ETag: "26-1" | {MONTH_OLD}', 2 * MINUTE),
    ("debian", "http://deb.debian.org/debian/dists/bookworm/main/binary-amd64/Packages.xz", f'{DEBIAN} | ETag: "8-1" | {MONTH_OLD} | Cache-Control: public, max-age=900', 2 * MINUTE),
    ("ubuntu", "http://archive.ubuntu.com/ubuntu/dists/noble/Release.gpg", f'{UBUNTU} | ETag: "6-1" | {MONTH_OLD} | Cache-Control: max-age=300', 2 * MINUTE),
    ("fedora", "http://dl.fedoraproject.org/pub/epel/9/Everything/x86_64/repodata/repomd.xml", f'{FEDORA} | ETag: "1-1" | {MONTH_OLD}', 2 * MINUTE),
    ("fedora", "http://mirrors.fedoraproject.org/metalink?repo=fedora-40&arch=x86_64", "Server: Apache | Content-Type: application/metalink+xml | Cache-Control: max-age=3600", 2 * MINUTE),
    ("office-update", "http://officecdn.microsoft.com/pr/492350f6-3a01-4f97-b9c0-c7c6ddf67d60/Office/Data/v64.cab", f'{OFFICE} | ETag: "0x8" | {MONTH_OLD}', 10 * MINUTE),
    ("antivirus", "http://database.clamav.net/daily.cvd", f'{CLAMAV} | ETag: "66-2" | {MONTH_OLD} | Cache-Control: max-age=14400', 10 * MINUTE),
]  # fmt: skip

LEFT = [
    ("debian", "http://deb.debian.org/debian/README", f'{DEBIAN} | ETag: "1" | Cache-Control: max-age=60'),
    ("ubuntu", "http://deb.debian.org/debian/pool/main/h/hello/hello_2.10-3_amd64.deb", f'{DEBIAN} | ETag: "1" | Cache-Control: max-age=60'),
    ("windows-update", "http://ctldl.windowsupdate.com/msdownload/update/v3/static/trustedr/en/authrootstl.cab?ab12", f'{WINDOWS} | ETag: "80" | Cache-Control: max-age=900'),
    ("windows-update", f"http://evil.example/filestreamingservice/files/{GUID}?P1=1", f'{WINDOWS} | ETag: "80" | Cache-Control: max-age=900'),
    ("windows-update", f"http://download.windowsupdate.com.evil.example/msdownload/update/a_{SHA1}.cab", f'{WINDOWS} | ETag: "80" | Cache-Control: max-age=900'),
    ("office-update", "http://officecdn.microsoft.com/pr/wsus/setup.exe", f'{OFFICE} | ETag: "0x8" | Cache-Control: max-age=60'),
    ("steam", "http://cache3-fra1.steamcontent.com/depot/441/manifest/7512/5/1234", f'{STEAM} | ETag: "a" | Cache-Control: max-age=60'),
    ("steam", "http://cache3-fra1.steamcontent.com/server-status", f'{STEAM} | ETag: "a" | Cache-Control: max-age=5'),
    ("game-cdn", "http://us.patch.battle.net/wow/versions", 'Server: nginx | ETag: "v" | Cache-Control: max-age=30'),
    ("game-cdn", "http://download.epicgames.com/Builds/Fortnite/CloudDir/x.manifest?t=1", f'{AKAMAI} | ETag: "v" | Cache-Control: max-age=30'),
    ("antivirus", "http://update.eset.com/v3-rel-sta/update.ver", 'Server: nginx | ETag: "v" | Cache-Control: max-age=30'),
]  # fmt: skip


def fetched(preset: str | None, url: str, text: str, status: int = 200) -> StoredResponse | None:
    """What is stored of such a response NOW under the preset."""
    rules = () if preset is None else preset_rules(preset)
    options = CachingOptions(overrides=overrides_from(rules))
    target = parse_absolute(url)
    where = placed(target, rules, options.drop_query)
    asked = RequestHead("GET", url, (1, 1), Fields(), where.target)
    head = ResponseHead(status, "", fields(f"Date: {at(0)} | {text}"))
    verdict = storing.decide(asked, PLAIN_REQUEST, head, Timing(NOW, NOW), options, where.key)
    return verdict.stored if isinstance(verdict, storing.Store) else None


@pytest.mark.parametrize(("preset", "url", "head"), KEPT, ids=lambda value: str(value)[-40:])
def test_kept(preset: str, url: str, head: str) -> None:
    one = fetched(preset, url, head)
    assert one is not None
    assert 90 * DAY <= one.lifetime.seconds <= 365 * DAY
    assert one.overrides.source == preset
    reload = reuse.decide(RequestDirectives(no_cache=True), one, False, NOW + 30 * DAY)
    assert isinstance(reload, reuse.ServeStored)
    # Ranges: the origin offers them and the validator is strong, so that parts may be stored and joined.
    assert one.etag is not None
    assert is_strong(one.etag)
    assert one.fields.get("accept-ranges") == "bytes"
    assert isinstance(plan(Fields([("Range", "bytes=0-1048575")]), 2**30), Parts)


@pytest.mark.parametrize(("preset", "url", "head"), KEPT, ids=lambda value: str(value)[-40:])
@pytest.mark.parametrize(
    ("rfc", "text", "status"),
    [
        ("9111 5.2.2.5", "Cache-Control: no-store", 200),
        ("9111 5.2.2.7", "Cache-Control: private", 200),
        ("a portal's page", "Content-Type: text/html", 200),
        ("not there", "Content-Type: text/html", 404),
        ("a redirect", "Location: http://portal.example/", 302),
        ("9111 5.2.2.2", "Cache-Control: must-revalidate", 200),
    ],
)
def test_nothing_else_in_its_place_is_kept(
    preset: str, url: str, head: str, rfc: str, text: str, status: int
) -> None:
    one = fetched(preset, url, f'ETag: "x" | {text}', status)
    assert one is None or one.lifetime.seconds == 0 or rfc == "9111 5.2.2.2"
    if rfc == "9111 5.2.2.2":
        plain = fetched(None, url, f'ETag: "x" | {text}')
        assert one is not None
        assert plain is not None
        assert one.lifetime == plain.lifetime


@pytest.mark.parametrize(("preset", "url", "head", "longest"), LISTED, ids=lambda value: str(value)[-40:])
def test_lists_stay_short(preset: str, url: str, head: str, longest: float) -> None:
    one = fetched(preset, url, head)
    assert one is not None
    assert one.lifetime.seconds <= longest
    assert not one.overrides.ignore_reload


@pytest.mark.parametrize(("preset", "url", "head"), LEFT, ids=lambda value: str(value)[-40:])
def test_the_rest_is_left_alone(preset: str, url: str, head: str) -> None:
    one, plain = fetched(preset, url, head), fetched(None, url, head)
    assert one is not None
    assert plain is not None
    assert (one.lifetime, one.overrides, one.key) == (plain.lifetime, plain.overrides, plain.key)


def test_a_signature_is_not_in_the_key() -> None:
    base = f"http://9.tlu.dl.delivery.mp.microsoft.com/filestreamingservice/files/{GUID}"
    head = f'{WINDOWS} | ETag: "7" | Cache-Control: public, max-age=60'
    first, second = (
        fetched("windows-update", f"{base}?P1={number}&P2=404&P3=2&P4=x{number}", head) for number in (1, 2)
    )
    assert first is not None
    assert second is not None
    assert first.key == second.key == base


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_held_by_heads_and_says_what_it_does(name: str) -> None:
    assert name in {case[0] for case in KEPT}
    assert name in {case[0] for case in LISTED} | {case[0] for case in LEFT}
    assert len(PRESETS[name].summary) > 40
    used = set()
    for preset, url, head, *_ in [*KEPT, *LISTED]:
        target = parse_absolute(url)
        used |= {
            (rule.glob, rule.unchanging)
            for rule in preset_rules(preset)
            if preset == name and rule.applies_to(target, fields(head))
        }
    unheld = {rule.glob for rule in PRESETS[name].rules if (rule.glob, rule.unchanging) not in used}
    assert unheld <= UNHELD


# Neighbours of patterns that are held: the same list under another name.
UNHELD = {
    *(
        f"*/{tree}/dists/*/{name}"
        for tree in ("debian*", "ubuntu*")
        for name in (
            "InRelease",
            "Release",
            "Release.gpg",
            "Packages*",
            "Sources*",
            "Contents-*",
            "Translation-*",
        )
    ),
    "*/ubuntu*/dists/*/by-hash/*",
    "*.drpm",
    "*/mirrorlist?*",
    "*/office/data/v[36][24].cab",
    f"*/tpr/*/{'[0-9A-Fa-f]' * 2}/{'[0-9A-Fa-f]' * 2}/{'[0-9A-Fa-f]' * 32}.index",
    *(f"*/{name}-[0-9]*[0-9].cdiff" for name in ("main", "bytecode")),
    *(f"*/{name}.c[vl]d" for name in ("main", "bytecode")),
}


def test_a_mirror_of_ones_own() -> None:
    rules = preset_rules("windows-update", "wsus.lan")
    assert {rule.host for rule in rules} == {"wsus.lan"}
    assert {rule.preset for rule in rules} == {"windows-update"}
    assert all(rule.host is None for rule in preset_rules("debian"))
    with pytest.raises(KeyError):
        preset_rules("debain")


def test_longer_lifetimes_need_a_hash_or_a_version() -> None:
    """Issue 3.6: every lengthening pattern names digits, or leaves the judgement to the name."""
    for name in PRESETS:
        for rule in preset_rules(name):
            assert rule.min_lifetime_s is None or rule.unchanging or "[0-9" in (rule.glob or "")
