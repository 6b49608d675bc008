"""What a playlist says, and files over HTTP: addresses, dates, ranges, whom a password is for."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from streamdyn.errors import SourceError
from streamdyn.sources.live.playlist import (
    EncryptedError,
    Part,
    absolute,
    best_variant,
    read_playlist,
)
from streamdyn.sources.live.web import WebFiles

NOW = 1_000_000.0
HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:9\n"


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("a.ts", "http://u:p@h/x/a.ts"),
        ("../b.ts", "http://u:p@h/b.ts"),
        ("//h2/c.ts", "http://h2/c.ts"),
        ("?seg=1.ts&t=a%20b", "http://u:p@h/x/live.m3u8?seg=1.ts&t=a%20b"),
        ("e f.ts", "http://u:p@h/x/e%20f.ts"),
        ("\u00e9.ts", "http://u:p@h/x/%C3%A9.ts"),
        ("http://h3/g.ts?q=1#f", "http://h3/g.ts?q=1"),
    ],
)
def test_addresses_of_segments(uri, url):
    assert absolute("http://u:p@h/x/live.m3u8?q=2", uri) == url


def test_dates_follow_one_another_and_end_at_a_discontinuity():
    text = HEAD + (
        "#EXTINF:4,\na.ts\n#EXT-X-PROGRAM-DATE-TIME:1970-01-12T13:46:40\n#EXTINF:3.5,\nb.ts\n"
        "#EXTINF:4,\nc.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:4,\nd.ts\n#EXT-X-GAP\n#EXTINF:4,\ne.ts\n"
    )
    found = read_playlist(text, "http://h/p.m3u8", NOW)
    assert [s.filmed_at for s in found.segments] == [None, NOW, NOW + 3.5, None, None]
    assert [(s.sequence, s.run) for s in found.segments] == [
        (9, 0), (10, 0), (11, 0), (12, 1), (13, 1)
    ]  # fmt: skip
    assert [s.is_gap for s in found.segments] == [False] * 4 + [True]
    assert (found.has_end, found.is_dated, found.longest_seconds) == (False, True, 4.0)


def test_without_dates_a_live_playlist_ends_now():
    text = HEAD + "#EXTINF:4,\na.ts\n#EXTINF:2,\nb.ts\n"
    assert [s.filmed_at for s in read_playlist(text, "http://h/p", NOW).segments] == [
        NOW - 6, NOW - 2
    ]  # fmt: skip
    ended = read_playlist(text + "#EXT-X-ENDLIST\n", "http://h/p", NOW)
    assert [s.filmed_at for s in ended.segments] == [None, None]


def test_ranges_of_one_file():
    text = HEAD + (
        '#EXT-X-MAP:URI="a.mp4",BYTERANGE="100@0"\n#EXTINF:4,\n#EXT-X-BYTERANGE:500@100\na.mp4\n'
        "#EXTINF:4,\n#EXT-X-BYTERANGE:400\na.mp4\n"
    )
    one, two = read_playlist(text, "http://h/p.m3u8", NOW).segments
    assert (one.head, one.part) == (
        Part("http://h/a.mp4", 0, 100),
        Part("http://h/a.mp4", 100, 500),
    )
    assert two.part == Part("http://h/a.mp4", 600, 400)


def test_what_is_no_playlist_is_said():
    with pytest.raises(SourceError, match="no playlist"):
        read_playlist("<html>", "http://h/p", NOW)
    key = '#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:4,\na.ts\n'
    with pytest.raises(EncryptedError):
        read_playlist(HEAD + key, "http://h/p", NOW)
    variants = "#EXT-X-STREAM-INF:BANDWIDTH=1\na\n#EXT-X-STREAM-INF:BANDWIDTH=5\nb\n"
    assert best_variant(HEAD + variants, "http://h/p") == "http://h/b"
    assert best_variant(HEAD, "http://h/p") is None


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *of: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def send(request: BaseHTTPRequestHandler, data: bytes, status: int = 200, **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)


def files() -> WebFiles:
    return WebFiles(1.0, threading.Event())


def test_redirects_cookies_and_packed_answers():
    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/old":
            send(request, b"", 302, Location="/new/x?y=1", Set_Cookie="a=b; Path=/")
        elif request.headers["Cookie"] != "a=b":
            send(request, b"", 403)
        else:
            send(request, gzip.compress(b"data"), Content_Encoding="gzip")

    with serving(answer) as host:
        assert files().get(Part(f"http://u:p@{host}/old")) == (
            b"data",
            f"http://u:p@{host}/new/x?y=1",
        )
        with pytest.raises(SourceError, match="Forbidden"):
            files().get(Part(f"http://{host}/new"))


def test_a_password_is_not_for_the_host_that_a_server_names():
    seen = []

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        send(request, b"data")

    with serving(elsewhere) as other:

        def answer(request: BaseHTTPRequestHandler) -> None:
            seen.append(request.headers["Authorization"])
            send(request, b"", 302, Location=f"http://{other}/x")

        with serving(answer) as host:
            assert files().get(Part(f"http://u:p@{host}/"))[1] == f"http://{other}/x"
    assert seen == ["Basic dTpw", None]


def test_a_server_that_knows_no_ranges():
    with serving(lambda request: send(request, bytes(range(100)))) as host:
        assert files().get(Part(f"http://{host}/", 10, 5))[0] == bytes(range(10, 15))
        with pytest.raises(SourceError, match="0 of 5 bytes"):
            files().get(Part(f"http://{host}/", 200, 5))


def test_what_trickles_is_given_up_and_nobody_waits_for_it_at_the_end():
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(200):
            request.wfile.write(b".")
            time.sleep(0.05)

    with serving(answer) as host:
        with pytest.raises(SourceError, match="bytes came in 1 s"):
            WebFiles(0.2, threading.Event()).get(Part(f"http://{host}/"))
        is_over = threading.Event()
        threading.Timer(0.5, is_over.set).start()
        began = time.monotonic()
        with pytest.raises(SourceError, match="told to stop"):
            WebFiles(30.0, is_over).get(Part(f"http://{host}/"), 100.0)
        assert time.monotonic() - began < 5
