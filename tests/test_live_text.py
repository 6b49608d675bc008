"""Live text against real files, servers and a real Redis: no word lost, none twice."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamdyn.errors import ConfigError
from streamdyn.protocols import Position
from streamdyn.sources.live import LiveText
from streamdyn.sources.live.text import LiveTokenCursor
from streamdyn.sources.tokens import tokens_of
from tests.test_delivery import Redis
from tests.test_delivery import redis_server as redis_server

WORDS = [f"word{n}" for n in range(300)]


class Read:
    """Words, characters and ordinals that a cursor hands out."""

    def __init__(self, cursor: LiveTokenCursor) -> None:
        self._cursor = cursor
        self.words: list[str] = []
        self.starts: list[int] = []
        self.ordinals: list[int] = []

    def step(self) -> bool:
        block = self._cursor.next_block()
        if block is None:
            return False
        ordinals = range(block.first, block.stop)
        items, _ = self._cursor.materialize(ordinals, self._cursor_spec())
        self.words += [item.data.tobytes().decode() for item in items]
        self.starts += block.pts.tolist()
        self.ordinals += ordinals
        self._cursor.release(block.stop)
        return True

    @staticmethod
    def _cursor_spec() -> Any:
        return None

    def until(self, is_enough: Callable[[], bool], seconds: float = 20) -> Read:
        deadline = time.monotonic() + seconds
        while not is_enough():
            assert time.monotonic() < deadline, f"not in {seconds} s: {self.words[-5:]}"
            self.step()
        return self

    def count(self, number: int) -> Read:
        return self.until(lambda: len(self.words) >= number)

    def position(self) -> Position:
        return Position(self.ordinals[-1] + 1, self.starts[-1])


def append(path: Path, words: list[str]) -> None:
    with path.open("a") as file:
        file.write("".join(f"{word}\n" for word in words))


def test_a_file_that_grows_is_followed_through_rotation_and_truncation(tmp_path):
    path = tmp_path / "app.log"
    with closing(LiveText(path, retry_seconds=0.05).open()) as cursor:
        read = Read(cursor)
        append(path, WORDS[:50])
        read.count(50)
        append(path, WORDS[50:60])
        path.rename(tmp_path / "app.log.1")
        append(tmp_path / "app.log.1", WORDS[60:70])  # The writer has it open still.
        time.sleep(0.3)
        append(path, WORDS[70:90])
        read.count(90)
        path.write_text("")
        time.sleep(0.4)
        append(path, WORDS[90:100])
        read.count(100)
    assert read.words == WORDS[:100]
    assert read.ordinals == list(range(100))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.text(alphabet="ab 'é中\n.", max_size=400),
    cuts=st.lists(st.integers(0, 400), max_size=3),
    blocks=st.integers(1, 40),
)
def test_reading_goes_on_where_it_was(tmp_path_factory, text, cuts, blocks):
    """Cut anywhere, also within a word or a character, and begun anew from the last block."""
    folder = tmp_path_factory.mktemp("text")
    path, data = folder / "a.txt", f"{text}\n".encode()
    whole = [t for pair in tokens_of([f"{text}\n"]) for t in zip(*pair, strict=True)]
    found: list[tuple[int, str]] = []
    position, written = None, 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        with path.open("ab") as file:
            file.write(data[written:cut])
        written = cut
        source = LiveText(path, spool=folder / "spool", block_size=blocks, retry_seconds=0.02)
        with closing(source.open(position)) as cursor:
            read = Read(cursor)
            is_last = cut == len(data)
            want = (
                len(whole) - len(found) if is_last else min(blocks, _whole(data[:cut]) - len(found))
            )
            read.count(max(0, want))
            found += zip(read.starts, read.words, strict=True)
            position = read.position() if read.words else position
    assert found == whole


def _whole(data: bytes) -> int:
    """Tokens of which is certain that they are whole."""
    text = data.decode("utf-8", "ignore")
    cut = max(text.rfind(" "), text.rfind("\n"))
    return sum(len(words) for _, words in tokens_of([text[: cut + 1]])) if cut >= 0 else 0


class Events(ThreadingHTTPServer):
    """Server-sent events: a line each, from an id on; hangs up after every ten."""

    def __init__(self) -> None:
        events = self
        self.num_sent, self.asked = 100, []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                last = self.headers.get("Last-Event-ID")
                events.asked.append(last)
                first = int(last) + 1 if last else 0
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for number in range(first, min(first + 10, events.num_sent)):
                    said = f": comment\nid: {number}\ndata: {WORDS[number]}\ndata: and\n\n"
                    self.wfile.write(said.encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Requests are not logged."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Events]:
    found = Events()
    yield found
    found.shutdown()
    found.server_close()


def test_server_sent_events_go_on_after_the_last_id(server, tmp_path):
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    source = LiveText(url, spool=tmp_path, retry_seconds=0.02, longest_retry_seconds=0.05)
    with closing(source.open()) as cursor:
        read = Read(cursor).count(60)
    with closing(source.open(read.position())) as cursor:
        again = Read(cursor).count(200 - len(read.words))
    expected = [word for name in WORDS[:100] for word in (name, "and")]
    assert read.words + again.words == expected
    assert server.asked[0] is None
    assert server.asked[1] == "9"


def test_a_redis_stream_is_gone_on_with_across_restarts(redis_server: Redis, tmp_path):
    import redis

    url = f"redis://127.0.0.1:{redis_server.port}/0?stream=lines"
    source = LiveText(url, spool=tmp_path / "s", retry_seconds=0.05, longest_retry_seconds=0.2)

    def send(words: list[str]) -> None:
        with closing(redis.Redis(port=redis_server.port)) as client:
            deadline = time.monotonic() + 10
            while True:
                try:
                    client.ping()
                    break
                except redis.exceptions.RedisError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            for word in words:
                client.xadd("lines", {"text": word})

    send(WORDS[:40])
    with closing(source.open()) as cursor:
        read = Read(cursor).count(40)
        redis_server.kill()
        time.sleep(0.3)
        redis_server.start()
        send(WORDS[40:70])
        read.count(70)
    send(WORDS[70:100])
    with closing(source.open(read.position())) as cursor:
        again = Read(cursor).count(30)
    assert read.words + again.words == WORDS[:100]


def test_standard_input_is_read_to_its_end(tmp_path):
    text = "A fine film, warm and funny. " * 20
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.stream_child", "watch", "-",
            "--into", str(tmp_path / "i.db"),
            "--policy", "idf:share=0.2,lookahead=64",
            "--recognizer", "recurrent:model=movie-sentiment", "--min-score", "0.1", "--json",
        ],
        input=text, capture_output=True, text=True, timeout=120, check=False,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"phase": "start"' in done.stdout
    assert "160 items" in done.stderr


@pytest.mark.parametrize(
    ("url", "says"),
    [("gopher://x", "scheme 'gopher'"), ("redis://127.0.0.1/0", "names no stream")],
)
def test_wrong_addresses_are_named(url, says):
    with pytest.raises(ConfigError, match=says):
        LiveText(url)
