"""What names tell: parameters that only track, files that never change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.key import cache_key
from cacheproxy.caching.naming import TRACKING, is_signed, lifetime_by_name, never_changes, place
from cacheproxy.http.uri import parse_absolute

DAYS_30 = 30 * 86400.0
H32, H40, H60, H64 = ("0123456789abcdef" * 8)[:32], "ab12cd34" * 5, "9f" * 30, "0a1b2c3d" * 8
H128 = H64 * 2


@pytest.mark.parametrize(
    ("source", "asked", "fetched"),
    [
        ("issue 3.5 alone", "/a?utm_source=x", "/a"),
        ("issue 3.5 behind", "/a?a=1&utm_source=x", "/a?a=1"),
        ("issue 3.5 before", "/a?utm_source=x&a=1", "/a?a=1"),
        ("issue 3.5 between", "/a?a=1&utm_source=x&b=2", "/a?a=1&b=2"),
        (
            "issue 3.5 all kinds",
            "/?utm_source=a&utm_medium=b&utm_campaign=c&utm_content=d&fbclid=e&gclid=f",
            "/",
        ),
        ("issue 3.5 twice", "/a?gclid=1&a=1&gclid=2", "/a?a=1"),
        ("issue 3.5 without value", "/a?utm_source&a", "/a?a"),
        ("issue 3.5 empty value", "/a?fbclid=&a=", "/a?a="),
        ("issue 3.5 nothing to do", "/a?b=2&a=1&&c", "/a?b=2&a=1&&c"),
        ("issue 3.5 empty query stays", "/a?", "/a?"),
        ("issue 3.5 empty parameters stay", "/a?&utm_a=1&", "/a?&"),
        ("issue 3.5 escapes stay", "/a?q=%7E+~&utm_a=1", "/a?q=%7E+~"),
        ("3986 3.4 a second question mark", "/a?b=?utm_a=1&utm_a=?", "/a?b=?utm_a=1"),
        ("3986 3.4 in the path", "/utm_source=x", "/utm_source=x"),
        ("issue 3.5 no guess: escaped name", "/a?utm%5Fsource=x", "/a?utm%5Fsource=x"),
        ("issue 3.5 no guess: case", "/a?UTM_SOURCE=x&Gclid=1", "/a?UTM_SOURCE=x&Gclid=1"),
        ("issue 3.5 no guess: semicolons", "/a?a=1;utm_source=x", "/a?a=1;utm_source=x"),
        ("issue 3.5 no guess: longer name", "/a?gclid2=1&xfbclid=1&utm=1", "/a?gclid2=1&xfbclid=1&utm=1"),
        (
            "issue 3.5 no guess: others' marks",
            "/a?msclkid=1&mc_eid=2&_=3&id=4",
            "/a?msclkid=1&mc_eid=2&_=3&id=4",
        ),
        ("signed link", "/a?utm_a=1&X-Amz-Signature=f", "/a?utm_a=1&X-Amz-Signature=f"),
    ],
)
def test_the_url_fetched_is_the_url_of_the_key(source: str, asked: str, fetched: str) -> None:
    found = place(parse_absolute(f"http://h{asked}"))
    assert found.target.path_and_query == fetched
    assert found.key == cache_key(found.target)


PARAMETERS = st.lists(
    st.sampled_from(
        ["utm_source=x", "fbclid=1", "gclid", "a=1", "b", "", "=", "utm=1", "a=utm_x=1", "%75tm_a=1"]
    ),
    max_size=6,
)


@given(PARAMETERS)
def test_only_the_listed_go_and_the_rest_keeps_its_order(parameters: list[str]) -> None:
    target = parse_absolute("http://h/p" + ("?" + "&".join(parameters) if parameters else ""))
    once = place(target)
    left = [one for one in parameters if not one.startswith(("utm_", "fbclid", "gclid"))]
    assert once.target.path_and_query == ("/p?" + "&".join(left) if left else "/p")
    assert place(once.target) == once


@pytest.mark.parametrize(
    ("dropped", "ignored", "signing", "asked", "fetched", "key"),
    [
        ((), (), (), "?utm_a=1", "?utm_a=1", "?utm_a=1"),
        ((*TRACKING, "ref"), (), (), "?ref=1&a=2&gclid=3", "?a=2", "?a=2"),
        ((*TRACKING, "mtm_*"), (), (), "?mtm_x=1&mtm=2", "?mtm=2", "?mtm=2"),
        (TRACKING, ("sid",), (), "?sid=1&a=2&utm_a=3", "?a=2", "?a=2"),
        (TRACKING, ("*",), (), "?a=2&b=3", "", ""),
        (TRACKING, ("sid",), (), "?sid=1&sig=2&utm_a=3", "?sig=2&utm_a=3", "?sig=2&utm_a=3"),
        (TRACKING, (), ("P1", "P2"), "?P1=1&a=1&P2=2", "?P1=1&a=1&P2=2", "?a=1"),
        (TRACKING, (), ("*",), "?P1=1&utm_a=1", "?P1=1", ""),
        (TRACKING, ("b",), ("*",), "", "", ""),
    ],
)
def test_the_operators_lists(
    dropped: tuple[str, ...],
    ignored: tuple[str, ...],
    signing: tuple[str, ...],
    asked: str,
    fetched: str,
    key: str,
) -> None:
    found = place(parse_absolute(f"http://h/{asked}"), dropped, ignored, signing)
    assert (str(found.target), found.key) == (f"http://h/{fetched}", f"http://h/{key}")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Signature=1&Key-Pair-Id=2", True),
        ("X-Goog-Signature=1", True),
        ("se=1&sig=x", True),
        ("hdnts=exp", True),
        ("design=1&signal=2&s=3", False),
        ("", False),
    ],
)
def test_signed_links(query: str, expected: bool) -> None:
    assert is_signed(parse_absolute(f"http://h/?{query}")) == expected


DEB = "/debian/pool/main"


@pytest.mark.parametrize(
    "path",
    [
        f"{DEB}/c/curl/curl_7.88.1-10+deb12u8_amd64.deb",
        f"{DEB}/libf/libfoo-dev/libfoo-dev_1%3a2.0-1_all.deb",
        f"{DEB}/m/master/current_1.0~rc1-1_all.deb",
        "/debian-security/pool/updates/main/o/openssl/libssl3_3.0.15-1~deb12u1_arm64.deb",
        "/ubuntu/pool/universe/n/nano/nano-udeb_7.2-1_amd64.udeb",
        "/ubuntu/pool/main/n/nano/nano-dbgsym_7.2-1_amd64.ddeb",
        f"{DEB}/h/hello/hello_2.10-3.dsc",
        f"{DEB}/h/hello/hello_2.10.orig.tar.gz",
        f"{DEB}/h/hello/hello_2.10-3.debian.tar.xz",
        f"{DEB}/h/hello/hello_2.9-2.diff.gz",
        f"/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/{H64}",
        f"/debian/dists/bookworm/main/binary-amd64/by-hash/SHA512/{H128}",
        f"/debian/dists/bookworm/main/i18n/by-hash/MD5Sum/{H32}",
        f"/packages/5d/3c/{H60}/requests-2.32.3-py3-none-any.whl",
        f"/packages/5d/3c/{H60}/anything.metadata",
        "/wheels/requests-2.32.3-py3-none-any.whl",
        "/numpy-2.1.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "/w/foo_bar-1!2.0rc1.post3-1a-py2.py3-none-any.whl",
        "/sdists/requests-2.32.3.tar.gz",
        "/gnu/hello/hello-2.12.1.tar.xz",
        "/src/foo-bar-v1.2.tgz",
        "/kernel/v6.x/linux-6.9.rc1.tar.xz",
        "/lodash/-/lodash-4.17.21.tgz",
        "/@babel/core/-/core-7.24.0-beta.1.tgz",
        "/@babel%2fcore/-/core-7.24.0.tgz",
        "/fedora/linux/releases/40/Everything/x86_64/os/Packages/b/bash-5.2.26-3.fc40.x86_64.rpm",
        "/pub/epel/9/Everything/source/tree/Packages/h/htop-3.3.0-1.el9.src.rpm",
        "/updates/drpms/kernel-core-6.8.4-300.fc40.x86_64.drpm",
        f"/fedora/updates/40/repodata/{H64}-primary.xml.gz",
        f"/assets/app.{H32}.js",
        f"/assets/logo-{H40}.svg",
        f"/{H40}.css",
        f"/v2/library/alpine/blobs/sha256:{H64}",
        f"/c/msdownload/update/software/secu/2024/05/windows10.0-kb5037771-x64_{H40}.cab",
    ],
)
def test_what_never_changes(path: str) -> None:
    """RFC 9111 §4.2.2, issue 3.5."""
    assert lifetime_by_name(path, None, DAYS_30) == DAYS_30
    assert lifetime_by_name(path, "x=1", DAYS_30) is None, "a query may choose something else"
    assert lifetime_by_name(path, "", DAYS_30) is None
    assert lifetime_by_name(path, None, 0) is None, "turned off"


@pytest.mark.parametrize(
    "path",
    [
        "/debian/dists/bookworm/InRelease",
        "/debian/dists/bookworm/Release",
        "/debian/dists/bookworm/Release.gpg",
        "/debian/dists/bookworm/main/binary-amd64/Packages.xz",
        "/debian/dists/bookworm/main/source/Sources.gz",
        "/debian/dists/bookworm/main/Contents-amd64.gz",
        "/debian/dists/bookworm/main/i18n/Translation-en.bz2",
        f"/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/{H40}",
        f"/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/{H64}/x",
        f"/debian/dists/bookworm/main/binary-amd64/by-hash/BLAKE3/{H64}",
        "/debian/pool/main/c/curl/",
        "/debian/pool/main/c/curl/curl.deb",
        "/debian/pool/main/c/curl/curl_latest_amd64.deb",
        "/google-chrome-stable_current_amd64.deb",
        "/downloads/tool_1.2_amd64.deb",
        "/pool.deb",
        "/simple/requests/",
        f"/simple/app.{H32}.json",
        "/pypi/requests/json",
        "/packages/source/r/requests/",
        "/requests-latest-py3-none-any.whl",
        "/torch-2.5.0.dev20240901-cp312-cp312-linux_x86_64.whl",
        "/torch-2.4.0+cu121-cp312-cp312-linux_x86_64.whl",
        "/whl/nightly/torch-2.5.0-cp312-cp312-linux_x86_64.whl",
        "/requests.tar.gz",
        "/requests-2.tar.gz",
        "/requests-latest.tar.gz",
        "/snapshots/foo-1.2.3.tar.gz",
        "/foo-1.2.3-SNAPSHOT.tar.gz",
        "/v1.2.3.tar.gz",
        "/o/r/archive/refs/tags/foo-1.2.3.tar.gz",
        "/o/r/-/archive/v1.2/r-1.2.3.tar.gz",
        "/lodash",
        "/lodash/latest",
        "/lodash/-/lodash.tgz",
        "/lodash/-/lodash-latest.tgz",
        "/fedora/repodata/repomd.xml",
        "/fedora/repodata/repomd.xml.asc",
        "/fedora/repodata/primary.xml.gz",
        "/epel-release-latest-9.noarch.rpm",
        "/bash.rpm",
        f"/user/{H32}",
        f"/avatar/{H32}.jpg",
        f"/{H32}/profile",
        f"/x-{H32}.html",
        f"/x-{H32}.php",
        f"/api/x-{H32}.json",
        f"/index.{H32}",
        f"/order-{'1234567890' * 4}.pdf",
        f"/a-{'abcdef' * 6}.txt",
        f"/x-{H32.upper()}.js",
        f"/x{H32}.js",
        "/",
        "",
        "/" + "a" * 2000 + f".{H32}.js",
    ],
)
def test_what_may_change(path: str) -> None:
    assert not never_changes(path)


@given(st.text("/-_.0aA1", max_size=300).map(lambda text: "/" + text) | st.text(max_size=60))
def test_any_path_is_judged(path: str) -> None:
    assert lifetime_by_name(path, None, 5) in (None, 5)
