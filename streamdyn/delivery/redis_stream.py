"""Messages to a Redis stream; their ids there are their numbers, so that none enters twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamdyn.delivery.courier import DeliveryError, key_of
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
        self.key = key_of(self.name, url, topics)
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
            answers = pipe.execute(raise_on_error=False)
            for message, answer in zip(messages, answers, strict=True):
                if isinstance(answer, self._refused) and "equal or smaller" in str(answer):
                    self._check_is_ours(message)
                elif isinstance(answer, Exception):
                    raise answer
        except self._errors as exc:
            raise DeliveryError(f"{self.name} did not take messages: {exc}") from exc
        return len(messages)

    def _check_is_ours(self, message: Message) -> None:
        """A number that Redis has passed is a message that it has, or another's that came between.

        One that is older than the oldest entry was there and has been trimmed.
        """
        number = f"{message.number}-0"
        entries = self._client.xrange(self._stream, number, number)
        if entries and entries[0][1].get(b"id") == message.id.encode():
            return
        oldest = self._client.xrange(self._stream, count=1)
        if entries or (oldest and int(oldest[0][0].split(b"-")[0]) <= message.number):
            raise DeliveryError(
                f"{self.name} has entries of somebody else after message {message.number}, and "
                "Redis takes no older ones; give each job a stream of its own"
            )

    def close(self) -> None:
        """Hang up; may be called twice."""
        self._client.close()
