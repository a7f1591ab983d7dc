"""What becomes of a coding that the client cannot read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.decoding import (
    AsIs,
    AskAgain,
    Decision,
    Decode,
    decide,
    decoded_fields,
    decoded_request,
    is_text,
)
from cacheproxy.http.message import Fields
from cacheproxy.http.validators import weak_match
from cacheproxy.reasons import Reason
from tests.caching.build import fields

OURS = ("zstd", "br", "gzip")
TEXT = "Content-Type: text/html; charset=utf-8"
TAR = "Content-Type: application/x-tar"
VARY = "Vary: Accept-Encoding"
GZIP = "Content-Encoding: gzip"
UNKNOWN = AskAgain(Reason.UNKNOWN_CODING)


@pytest.mark.parametrize(
    ("rfc", "response", "client", "decision"),
    [
        ("9110 8.4 not coded", TEXT, "", AsIs()),
        ("9110 8.4 identity", f"{TEXT} | Content-Encoding: identity", "", AsIs()),
        ("9110 12.5.3 the client reads it", f"{TEXT} | {GZIP} | {VARY}", "Accept-Encoding: gzip, br", AsIs()),
        ("9110 8.4.1.3 by its other name", f"{TEXT} | Content-Encoding: x-gzip", "Accept-Encoding: gzip", AsIs()),
        ("9110 8.4 the client reads both", f"{TEXT} | Content-Encoding: gzip, br", "Accept-Encoding: *", AsIs()),
        ("issue 3.4 silent client", f"{TEXT} | {GZIP} | {VARY}", "", Decode(("gzip",))),
        ("issue 3.4 text without Vary", f"{TEXT} | {GZIP}", "", Decode(("gzip",))),
        ("issue 3.4 another coding", f"{TEXT} | Content-Encoding: br | {VARY}", "Accept-Encoding: gzip", Decode(("br",))),
        ("issue 3.4 br without Vary", f"{TAR} | Content-Encoding: br", "", Decode(("br",))),
        ("issue 3.4 zstd", f"{TAR} | Content-Encoding: zstd", "Accept-Encoding: gzip", Decode(("zstd",))),
        ("issue 3.4 refused by q=0", f"{TEXT} | {GZIP} | {VARY}", "Accept-Encoding: gzip;q=0", Decode(("gzip",))),
        ("issue 3.4 empty field", f"{TEXT} | {GZIP} | {VARY}", "Accept-Encoding:", Decode(("gzip",))),
        ("issue 3.4 unreadable field", f"{TEXT} | {GZIP} | {VARY}", "Accept-Encoding: gzip;q=9", Decode(("gzip",))),
        ("issue 3.4 tar.gz byte for byte", f"{TAR} | {GZIP}", "", AsIs()),
        ("issue 3.4 tar.gz as x-gzip", f"{TAR} | Content-Encoding: x-gzip", "", AsIs()),
        ("issue 3.4 no type at all", GZIP, "", AsIs()),
        ("issue 3.4 other nominated field", f"{TAR} | {GZIP} | Vary: Origin", "", AsIs()),
        ("issue 3.4 negotiated", f"{TAR} | {GZIP} | {VARY}", "", Decode(("gzip",))),
        ("issue 3.4 negotiated, second line", f"{TAR} | {GZIP} | Vary: A | {VARY}", "", Decode(("gzip",))),
        ("9110 12.5.5 star nominates it", f"{TAR} | {GZIP} | Vary: *", "", Decode(("gzip",))),
        ("9110 7.7 no-transform", f"{TEXT} | {GZIP} | Cache-Control: no-transform", "", AskAgain(Reason.NO_TRANSFORM)),
        ("9110 7.7 no-transform, readable", f"{TEXT} | {GZIP} | Cache-Control: no-transform", "Accept-Encoding: gzip", AsIs()),
        ("issue 3.4 several codings", f"{TEXT} | Content-Encoding: gzip, br", "", UNKNOWN),
        ("issue 3.4 one of two is readable", f"{TEXT} | Content-Encoding: gzip, br", "Accept-Encoding: gzip", UNKNOWN),
        ("9110 8.4 nothing of ours", f"{TEXT} | Content-Encoding: aes128gcm", "", AsIs()),
        ("9110 8.4 not what we asked", f"{TEXT} | Content-Encoding: deflate", "", AsIs()),
        ("9110 8.4 malformed, nothing of ours", f"{TEXT} | Content-Encoding: a b", "", AsIs()),
        ("issue 3.4 malformed", f"{TEXT} | Content-Encoding: gzip;q=1", "", UNKNOWN),
        ("9110 14.4 a part", f"{TEXT} | {GZIP} | Content-Range: bytes 0-1/9", "", UNKNOWN),
        (
            "9110 12.5.3 identity refused",
            f"{TEXT} | Content-Encoding: br | {VARY}",
            "Accept-Encoding: gzip, identity;q=0",
            AskAgain(Reason.NOT_ACCEPTABLE),
        ),
    ],
)  # fmt: skip
def test_decide(rfc: str, response: str, client: str, decision: Decision) -> None:
    assert decide(fields(response), fields(client), OURS) == decision


@pytest.mark.parametrize(
    ("rfc", "response", "path", "decision"),
    [
        ("issue 3.4 text by type, gz by name", f"Content-Type: text/plain | {GZIP}", "/doc/README.gz", AsIs()),
        ("issue 3.4 capitals", f"Content-Type: text/plain | {GZIP}", "/A.TGZ", AsIs()),
        ("issue 3.4 gz in gzip or gz itself?", f"{TAR} | {GZIP} | {VARY}", "/a.tar.gz", UNKNOWN),
        ("issue 3.4 br in br or br itself?", f"{TEXT} | Content-Encoding: br | {VARY}", "/a.js.br", UNKNOWN),
        ("issue 3.4 zst", f"{TAR} | Content-Encoding: zstd", "/a.tar.zst", UNKNOWN),
        ("issue 3.4 gz on the way in br", f"{TAR} | Content-Encoding: br | {VARY}", "/a.gz", Decode(("br",))),
        ("issue 3.4 no such ending", f"{TEXT} | {GZIP} | {VARY}", "/gz", Decode(("gzip",))),
    ],
)
def test_the_name_of_a_coded_file(rfc: str, response: str, path: str, decision: Decision) -> None:
    assert decide(fields(response), Fields(), OURS, path) == decision


RESPONSES = st.lists(
    st.sampled_from([TEXT, TAR, VARY, GZIP, "Content-Encoding: br", "Content-Encoding: foo", "Vary: *",
                     "Cache-Control: no-transform", "Content-Range: bytes 0-1/2"]), max_size=5
).map(" | ".join)  # fmt: skip
CLIENTS = st.sampled_from(
    [
        "",
        "Accept-Encoding:",
        "Accept-Encoding: gzip",
        "Accept-Encoding: br, zstd",
        "Accept-Encoding: identity;q=0",
    ]
)


@given(RESPONSES, CLIENTS)
def test_what_the_client_itself_asked_for_is_never_changed(response: str, client: str) -> None:
    """RFC 9111 §4.1: Vary alone decides who may get it."""
    assert decide(fields(response), fields(client), ()) == AsIs()


@given(RESPONSES, CLIENTS)
def test_no_transform_is_never_decoded(response: str, client: str) -> None:
    """RFC 9110 §7.7."""
    decision = decide(fields(f"{response} | Cache-Control: no-transform"), fields(client), OURS)
    assert not isinstance(decision, Decode)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, False),
        ("", False),
        ("text/plain", True),
        ("TEXT/HTML;charset=x", True),
        ("application/json", True),
        ("application/vnd.api+json ; v=1", True),
        ("image/svg+xml", True),
        ("image/png", False),
        ("application/x-tar", False),
        ("application/gzip", False),
        ("application/octet-stream", False),
        ("font/woff2", False),
        ("text", False),
    ],
)
def test_text(content_type: str | None, expected: bool) -> None:
    assert is_text(content_type) == expected


@pytest.mark.parametrize(
    ("rfc", "before", "after"),
    [
        ("9110 8.4", f"{TEXT} | {GZIP} | {VARY}", f"{TEXT} | {VARY}"),
        ("9110 8.6", f"Content-Length: 5 | {VARY}", VARY),
        ("9110 14.3", f"Accept-Ranges: bytes | {VARY}", VARY),
        ("9530 2, 3", f"Content-Digest: sha-256=:eA==: | Repr-Digest: sha-256=:eA==: | {VARY}", VARY),
        ("3230 4.3.2, 1864", f"Digest: SHA-256=eA== | Content-MD5: eA== | {VARY}", VARY),
        ("9110 8.8.1 strong", f'ETag: "x" | {VARY}', f'ETag: W/"x" | {VARY}'),
        ("9110 8.8.1 weak", f'ETag: W/"x" | {VARY}', f'ETag: W/"x" | {VARY}'),
        ("9110 8.8.3 no tag", f"ETag: x | {VARY}", f"ETag: x | {VARY}"),
        ("9110 12.5.5 added", "X: 1", "X: 1 | Vary: Accept-Encoding"),
        ("9110 12.5.5 behind others", "Vary: Origin", "Vary: Origin | Vary: Accept-Encoding"),
        ("9110 12.5.5 there in any case", "Vary: a, ACCEPT-encoding", "Vary: a, ACCEPT-encoding"),
        ("9110 12.5.5 star says it", "Vary: *", "Vary: *"),
        ("9111 5.1 the rest stays", f"Age: 5 | Date: x | {VARY}", f"Age: 5 | Date: x | {VARY}"),
    ],
)  # fmt: skip
def test_decoded_fields(rfc: str, before: str, after: str) -> None:
    assert decoded_fields(fields(before)) == fields(after)


@given(RESPONSES)
def test_decoding_the_fields_twice_is_once(response: str) -> None:
    once = decoded_fields(fields(response))
    assert decoded_fields(once) == once


@pytest.mark.parametrize(
    ("rfc", "client", "etag", "expected"),
    [
        ("9110 13.1.2 ours", 'If-None-Match: W/"x"', '"x"', 'If-None-Match: "x"'),
        ("9110 13.1.2 among others", 'If-None-Match: "a", W/"x"', '"x"', 'If-None-Match: "a", "x"'),
        ("9110 13.1.2 both", 'If-None-Match: "x", W/"x"', '"x"', 'If-None-Match: "x"'),
        ("9110 13.1.2 the origin's own", 'If-None-Match: W/"x"', 'W/"x"', 'If-None-Match: W/"x"'),
        ("9110 13.1.2 another", 'If-None-Match: W/"y"', '"x"', 'If-None-Match: W/"y"'),
        ("9110 13.1.2 star", "If-None-Match: *", '"x"', "If-None-Match: *"),
        ("9110 13.1.2 no stored tag", 'If-None-Match: W/"x"', None, 'If-None-Match: W/"x"'),
        ("9110 13.1.1 strong comparison stays", 'If-Match: W/"x"', '"x"', 'If-Match: W/"x"'),
        ("issue 3.4 range answered 200", 'Range: bytes=0-1 | If-Range: W/"x" | A: 1', '"x"', "A: 1"),
    ],
)
def test_decoded_request(rfc: str, client: str, etag: str | None, expected: str) -> None:
    assert decoded_request(fields(client), etag) == fields(expected)


@given(st.sampled_from(['"x"', 'W/"x"', '""', "x"]))
def test_a_decoded_tag_still_matches_the_stored_one(tag: str) -> None:
    """RFC 9110 §8.8.3.2."""
    shown = decoded_fields(Fields([("ETag", tag)])).get("etag")
    assert shown is not None
    assert weak_match(shown, tag)
    restored = decoded_request(Fields([("If-None-Match", shown)]), tag).get("if-none-match")
    assert restored == tag
