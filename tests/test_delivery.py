"""Sinks of messages against real files, a real HTTP receiver and a real Redis server."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamdyn.delivery.courier import DeliveryError
from streamdyn.delivery.jsonl_file import JsonlFile
from streamdyn.delivery.redis_stream import RedisStream
from streamdyn.delivery.webhook import Webhook
from streamdyn.index.live_book import Message
from tests.cameras import free_port, redis_is_missing

BOTH = frozenset({"event", "outcome"})


def messages(count: int, first: int = 1) -> list[Message]:
    return [
        Message(n, f"id-{n}", "event", json.dumps({"label": "dog", "n": n}))
        for n in range(first, first + count)
    ]


def open_file(path: Path, rotate_bytes: int = 10**6, keep_files: int = 3) -> JsonlFile:
    return JsonlFile(path, rotate_bytes=rotate_bytes, keep_files=keep_files, topics=BOTH)


def numbers_in(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_text().splitlines()]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(st.integers(1, 6), max_size=6),
    again=st.integers(0, 5),
    cut=st.integers(0, 120),
)
def test_a_line_is_written_once_whatever_was_cut_off(tmp_path_factory, batches, again, cut):
    path = tmp_path_factory.mktemp("jsonl") / "events.jsonl"
    sent = 0
    for size in batches:
        with closing(open_file(path)) as file:
            # The last ones are offered again, as after a crash before it was noted.
            first = max(1, sent + 1 - again)
            assert file.send(messages(size + sent + 1 - first, first)) > 0
        sent += size
    if sent:
        path.write_bytes(path.read_bytes()[: max(0, path.stat().st_size - cut)])
        whole = path.read_text().count("\n")
        with closing(open_file(path)) as file:
            file.send(messages(sent - whole + 2, whole + 1))
        assert numbers_in(path) == list(range(1, sent + 3))


def test_files_are_rotated_and_the_oldest_go(tmp_path):
    path = tmp_path / "events.jsonl"
    for number in range(1, 60):
        with closing(open_file(path, rotate_bytes=300)) as file:
            file.send(messages(1, number))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert [n for n in names if n != path.name] == [f"{path.name}.{n}" for n in (1, 2, 3)]
    kept = [n for place in (3, 2, 1) for n in numbers_in(path.with_name(f"{path.name}.{place}"))]
    kept += numbers_in(path) if path.exists() else []
    assert kept == list(range(kept[0], 60))
    with closing(open_file(path, rotate_bytes=300)) as file:
        assert file.send(messages(1, 59)) == 1
    assert not path.exists() or 59 not in numbers_in(path) or kept[-1] == 59


def test_a_full_disk_is_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    file = open_file(path)
    file.send(messages(2))
    assert file._file is not None
    real = file._file

    class Full:
        def write(self, data: bytes) -> int:
            real.write(data[: len(data) // 2])
            real.flush()
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            real.close()

    monkeypatch.setattr(file, "_file", Full())
    with pytest.raises(DeliveryError, match="No space left"):
        file.send(messages(3, 3))
    file.send(messages(3, 3))
    file.close()
    assert numbers_in(path) == [1, 2, 3, 4, 5]


class Receiver:
    """An HTTP receiver that answers as it is told."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code = receiver.answers.pop(0) if receiver.answers else 200
                if code == 200:
                    receiver.got.append((dict(self.headers), body))
                self.send_response(code)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Requests are not logged."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?token=abc"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


def hook(url: str, folder: Path, give_up_seconds: float = 3600) -> Webhook:
    return Webhook(
        url, secret="s3cret", dead_letters=folder / "dead.jsonl", timeout_seconds=2,
        give_up_seconds=give_up_seconds, topics=BOTH,
    )  # fmt: skip


def test_a_message_is_signed_and_has_a_key(receiver, tmp_path):
    assert hook(receiver.url, tmp_path).send(messages(3)) == 1
    headers, body = receiver.got[0]
    assert headers["Idempotency-Key"] == "id-1"
    digest = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["X-Streamdyn-Signature"] == f"sha256={digest}"
    assert json.loads(body) == {"type": "event", "label": "dog", "n": 1}


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_what_may_be_taken_later_is_tried_again(receiver, tmp_path, code):
    receiver.answers = [code]
    webhook = hook(receiver.url, tmp_path)
    with pytest.raises(DeliveryError, match=f"HTTP {code}") as caught:
        webhook.send(messages(1))
    assert "token=***" in str(caught.value)
    assert webhook.send(messages(1)) == 1
    assert len(receiver.got) == 1


@pytest.mark.parametrize("code", [400, 404, 410])
def test_what_is_refused_for_good_is_kept_as_a_dead_letter(receiver, tmp_path, code):
    receiver.answers = [code]
    webhook = hook(receiver.url, tmp_path)
    assert webhook.send(messages(2)) == 1
    letter = json.loads((tmp_path / "dead.jsonl").read_text())
    assert (letter["id"], letter["number"]) == ("id-1", 1)
    assert str(code) in letter["why"]


def test_nobody_there_is_waited_for_and_given_up_in_the_end(tmp_path):
    webhook = hook(f"http://127.0.0.1:{free_port()}/", tmp_path, give_up_seconds=0.1)
    with pytest.raises(DeliveryError, match="refused"):
        webhook.send(messages(1))
    time.sleep(0.15)
    assert webhook.send(messages(1)) == 1
    assert "0.0 hours" in (tmp_path / "dead.jsonl").read_text()


class Redis:
    """A Redis server that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
             "--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis_server(tmp_path) -> Iterator[Redis]:
    if missing := redis_is_missing():
        pytest.skip(f"no Redis server: {missing}")
    server = Redis(tmp_path)
    yield server
    server.kill()


def send_patiently(outlet: RedisStream, batch: list[Message]) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            outlet.send(batch)
            return
        except DeliveryError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_redis_has_each_message_once_across_its_restarts(redis_server):
    import redis

    with closing(RedisStream(redis_server.url, stream="s", longest=1000, topics=BOTH)) as outlet:
        send_patiently(outlet, messages(3))
        redis_server.kill()
        with pytest.raises(DeliveryError):
            outlet.send(messages(3, 2))
        redis_server.start()
        send_patiently(outlet, messages(3, 2))
    with closing(redis.Redis.from_url(redis_server.url)) as client:
        entries = client.xrange("s")
    assert [entry_id for entry_id, _ in entries] == [b"1-0", b"2-0", b"3-0", b"4-0"]
    assert json.loads(entries[-1][1][b"message"]) == {"label": "dog", "n": 4}
