"""Messages to a Redis stream; their ids there are their numbers, so that none enters twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamdyn.delivery.courier import DeliveryError
from streamdyn.errors import MissingExtra
from streamdyn.index.live_book import Message
from streamdyn.sources.live import redacted


class RedisStream:
    """A stream of a Redis server (XADD; Redis 5 or later).

    Redis takes only ids that increase: a message that is offered again is one that it has.

    Args:
        url: Of the server.
        stream: Its key.
        longest: Entries to keep, about.
        topics: Messages to send.

    Raises:
        MissingExtra: The package `redis` is not installed.
    """

    def __init__(self, url: str, *, stream: str, longest: int, topics: frozenset[str]) -> None:
        try:
            import redis
        except ImportError as exc:
            raise MissingExtra("redis", "a Redis sink", "redis") from exc
        self.name, self.topics = f"redis {redacted(url)} {stream}", topics
        self._stream, self._longest = stream, longest
        self._errors = redis.exceptions.RedisError
        self._refused = redis.exceptions.ResponseError
        self._client: Any = redis.Redis.from_url(url, socket_timeout=10, retry=None)

    def send(self, messages: Sequence[Message]) -> int:
        """Add messages; all of them.

        Raises:
            DeliveryError: The server cannot be reached, or refuses them.
        """
        try:
            pipe = self._client.pipeline(transaction=False)
            for message in messages:
                pipe.xadd(
                    self._stream,
                    {"id": message.id, "type": message.topic, "message": message.body},
                    id=f"{message.number}-0",
                    maxlen=self._longest,
                    approximate=True,
                )
            for answer in pipe.execute(raise_on_error=False):
                if isinstance(answer, self._refused) and "equal or smaller" in str(answer):
                    continue
                if isinstance(answer, Exception):
                    raise answer
        except self._errors as exc:
            raise DeliveryError(f"{self.name} did not take messages: {exc}") from exc
        return len(messages)

    def close(self) -> None:
        """Hang up; may be called twice."""
        self._client.close()
