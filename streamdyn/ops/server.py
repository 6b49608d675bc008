"""The HTTP server of a stream job.

| request | answer |
|---|---|
| `GET /healthz` | 200 while the process works |
| `GET /readyz` | 200 while every stream that is not paused comes, else 503 and those that do not |
| `GET /metrics` | for Prometheus |
| `GET /status` | all that is known of streams and sinks, JSON |
| `POST /pause`, `/resume`, `/restart` | of one stream (`?stream=NAME`) or all |
| `POST /reload` | read the job file again |
| `POST /stop` | drain and end |
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from streamdyn.errors import ConfigError, StreamdynError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Controls(Protocol):
    """What the server asks of a job."""

    def status(self) -> dict[str, Any]:
        """All that is known, as JSON takes it."""

    def metrics(self) -> bytes:
        """In Prometheus' text format."""

    def not_ready(self) -> list[str]:
        """Streams from which nothing comes."""

    def command(self, verb: str, stream: str | None) -> dict[str, Any]:
        """Carry out `pause`, `resume`, `restart`, `reload` or `stop`.

        Raises:
            ConfigError: No such verb or stream.
        """


class OpsServer:
    """Answers until it is closed.

    Args:
        controls: The job.
        host: To listen on.
        port: Likewise; 0: any that is free.
        token: Commands must bear it; may be empty on a loopback address.

    Raises:
        ConfigError: The address cannot be listened on, or is open to others without a token.
    """

    def __init__(self, controls: Controls, host: str, port: int, token: str = "") -> None:
        if host not in LOOPBACK and not token:
            raise ConfigError(
                f"ops.host {host} is open to other machines, and ops.token is empty: anybody could "
                "stop the job; set a token, such as token: ${OPS_TOKEN}"
            )
        handler = type("Handler", (_Handler,), {"controls": controls, "token": token})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as exc:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {exc.strerror or exc}; set another ops.port (0: "
                "any that is free)"
            ) from exc
        self._server.daemon_threads = True
        self.address = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="ops server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    controls: Controls
    token: str

    def do_GET(self) -> None:
        pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/healthz": lambda: (200, "text/plain", b"ok\n"),
            "/readyz": self._readiness,
            "/metrics": lambda: (200, "text/plain; version=0.0.4", self.controls.metrics()),
            "/status": lambda: (200, "application/json", _json(self.controls.status())),
        }
        page = pages.get(urlsplit(self.path).path)
        self._answer(*(page() if page else self._unknown()))

    def _readiness(self) -> tuple[int, str, bytes]:
        waits = self.controls.not_ready()
        if not waits:
            return 200, "text/plain", b"ok\n"
        return 503, "text/plain", f"nothing comes from: {', '.join(waits)}\n".encode()

    def _unknown(self) -> tuple[int, str, bytes]:
        return 404, "text/plain", b"see /healthz, /readyz, /metrics, /status\n"

    def do_POST(self) -> None:
        given = self.headers.get("Authorization", "")
        if self.token and not hmac.compare_digest(given, f"Bearer {self.token}"):
            self._answer(401, "text/plain", b"a command needs: Authorization: Bearer TOKEN\n")
            return
        url = urlsplit(self.path)
        stream = parse_qs(url.query).get("stream", [None])[0]
        try:
            done = self.controls.command(url.path.strip("/"), stream)
        except ConfigError as exc:
            self._answer(400, "application/json", _json({"error": str(exc)}))
        except StreamdynError as exc:
            self._answer(500, "application/json", _json({"error": str(exc)}))
        else:
            self._answer(200, "application/json", _json(done))

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"
