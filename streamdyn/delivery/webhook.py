"""Messages to an HTTP receiver, one request each.

| header | holds |
|---|---|
| `Idempotency-Key` | the id of the message: the same at every try |
| `X-Streamdyn-Signature` | `sha256=` and the HMAC of the body, where there is a secret |

A receiver that answers 2xx has taken it. 400 to 499 but 408, 425 and 429 says that it never will:
the message goes to the file of dead letters. Anything else is tried again until `give_up_seconds`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from streamdyn.delivery.courier import DeliveryError, key_of
from streamdyn.index.live_book import Message
from streamdyn.sources.live import redacted
from streamdyn.sources.live.urls import request_of

_TRY_AGAIN = {408, 425, 429}


class Webhook:
    """An HTTP receiver.

    Args:
        url: To post to.
        secret: Signs the messages; empty: none is signed.
        dead_letters: File of messages that were not taken, one a line.
        timeout_seconds: Of a request.
        give_up_seconds: A message is offered for so long.
        topics: Messages to send.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str,
        dead_letters: Path,
        timeout_seconds: float,
        give_up_seconds: float,
        topics: frozenset[str],
    ) -> None:
        self.name, self.topics = f"webhook {redacted(url)}", topics
        self.key = key_of(self.name, url, topics)
        self._url, self._secret, self._dead_letters = url, secret.encode(), dead_letters
        self._timeout_seconds, self._give_up_seconds = timeout_seconds, give_up_seconds
        self._failing_since: float | None = None
        self.num_dead = 0

    def send(self, messages: Sequence[Message]) -> int:
        """Post the first message; 1.

        Raises:
            DeliveryError: It was not taken, and may be later.
        """
        message = messages[0]
        refusal = self._post(message)
        if refusal is not None:
            self._bury(message, refusal)
        self._failing_since = None
        return 1

    def _post(self, message: Message) -> str | None:
        """Why it will never be taken, or nothing where it was."""
        body = json.dumps({"type": message.topic, **json.loads(message.body)}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.id}
        if self._secret:
            digest = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
            headers["X-Streamdyn-Signature"] = f"sha256={digest}"
        request = request_of(self._url, headers, body, "POST")
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_seconds):
                return None
        except urllib.error.HTTPError as exc:
            said = f"HTTP {exc.code} {exc.reason}"
            if 400 <= exc.code < 500 and exc.code not in _TRY_AGAIN:
                return said
        except (HTTPException, ValueError) as exc:
            said = type(exc).__name__  # What it says may hold the password.
        except OSError as exc:
            said = redacted(str(getattr(exc, "reason", exc)))
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > self._give_up_seconds:
            return f"{said}, for {self._give_up_seconds / 3600:.1f} hours"
        raise DeliveryError(f"{self.name} did not take message {message.id}: {said}")

    def _bury(self, message: Message, why: str) -> None:
        self.num_dead += 1
        line = {"number": message.number, "id": message.id, "why": why, "message": message.body}
        try:
            self._dead_letters.parent.mkdir(parents=True, exist_ok=True)
            with self._dead_letters.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as exc:
            raise DeliveryError(
                f"cannot write {self._dead_letters}: {exc.strerror or exc}"
            ) from exc

    def close(self) -> None:
        """Nothing is held back."""
