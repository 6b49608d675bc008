"""HLS for tests: a playlist of numbered pictures over HTTP on this machine."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.cameras import RATE, write_video

SEGMENT = 25
"""Pictures of a segment: one second, one GOP."""


class Playlist:
    """A server of a playlist and its segments.

    Args:
        folder: Where they are written.
        num_segments: At first.
        is_live: Segments come and go; else there is an end.
        window: Segments that a live playlist names.
        dated: When the first picture was filmed, seconds since the epoch; the playlist says so.
        password: `USER:PASSWORD` that is asked for.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_segments: int,
        is_live: bool = True,
        window: int = 20,
        dated: float | None = None,
        password: str = "",
    ) -> None:
        self.folder = folder / "hls"
        self.folder.mkdir()
        self._is_live, self._window, self._dated = is_live, window, dated
        self.password = password
        self.asked: Counter[str] = Counter()
        """File → how often."""
        self._num_segments = 0
        self.refuse = False
        """Answer nothing but 503."""
        self.missing: set[str] = set()
        """Files that are not there."""
        self.cuts: Counter[str] = Counter()
        """File → how often half of it is sent, and nothing more for `stall_seconds`."""
        self.stall_seconds = 0.0
        handler = partial(_Handler, directory=str(self.folder), playlist=self)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/live.m3u8"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._grower = threading.Thread(target=self._grow, daemon=True)
        self.advance(num_segments)

    def advance(self, count: int) -> None:
        """More segments, at once."""
        for _ in range(count):
            number = self._num_segments
            _write_segment(self.folder / f"{number:05d}.ts", number)
            self._num_segments += 1
        first = max(0, self._num_segments - self._window) if self._is_live else 0
        lines = [
            "#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
        ]  # fmt: skip
        if self._dated is not None:
            date = datetime.fromtimestamp(self._dated + first * SEGMENT / RATE, UTC)
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat(timespec='milliseconds')}")
        for number in range(first, self._num_segments):
            lines += [f"#EXTINF:{SEGMENT / RATE:.3f},", f"{number:05d}.ts"]
        if not self._is_live:
            lines.append("#EXT-X-ENDLIST")
        part = self.folder / "part"
        part.write_text("\n".join(lines) + "\n")
        part.replace(self.folder / "live.m3u8")

    def _grow(self) -> None:
        while not self._over.wait(SEGMENT / RATE):
            self.advance(1)

    def __enter__(self) -> Self:
        self._thread.start()
        if self._is_live:
            self._grower.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        if self._is_live:
            self._grower.join()
        self._server.shutdown()
        self._server.server_close()


def _write_segment(path: Path, number: int) -> None:
    """Pictures `number * SEGMENT` and on, at their time since the first segment."""
    write_video(
        path, SEGMENT, gop=SEGMENT, first=number * SEGMENT, num_b_frames=0, mpegts_copyts="1"
    )


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, playlist: Playlist, **options: Any) -> None:
        self._playlist = playlist
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        if self._playlist.refuse or self.path.strip("/") in self._playlist.missing:
            self.send_error(404 if self.path.strip("/") in self._playlist.missing else 503)
            return
        name = self.path.strip("/").partition("?")[0]
        self._playlist.asked[name] += 1
        token = base64.b64encode(self._playlist.password.encode()).decode()
        if token and self.headers["Authorization"] != f"Basic {token}":
            self.send_error(401)
            return
        if self._playlist.cuts[name] > 0:
            self._playlist.cuts[name] -= 1
            self._send_half(name)
            return
        super().do_GET()

    def _send_half(self, name: str) -> None:
        data = (Path(self.directory) / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        time.sleep(self._playlist.stall_seconds)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""
