"""How many windows a second the one writer of a cluster stores, asked by several workers over Ray.

`python benchmarks/writer_limit.py VIDEO [--clients N] [--windows N]`; the windows are those of a
run over the video with lite0, outcomes with embeddings and checkpoints included, stored again and
again under other names.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import ray
from measuring import header

from streamdyn import checkpoint
from streamdyn.budget import Budget
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.registry import build
from streamdyn.run.local import run_stream
from streamdyn.run.ray_batch import WINDOWS_AHEAD, Writer
from streamdyn.sources.video_av import VideoAv
from streamdyn.timeline import WindowResult


@ray.remote(num_cpus=0)
class Client:
    """Sends windows as a worker does: a few may be on their way."""

    def __init__(self, writer: Any, media: MediaRow, results: list[WindowResult]) -> None:
        self._writer, self._media, self._results = writer, media, results

    def ready(self) -> None:
        """It is there."""

    def send(self, state: bytes) -> int:
        """All of its windows."""
        ahead: deque[Any] = deque()
        for result in self._results:
            ahead.append(self._writer.write.remote(self._media, result, state))
            if len(ahead) > WINDOWS_AHEAD:
                ray.get(ahead.popleft())
        ray.get(list(ahead))
        return len(self._results)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--windows", type=int, default=500, help="of each client")
    asked = parser.parse_args()
    recognizer = build("recognizer", "lite0")
    recognizer.setup("cpu")
    policy: Any = build("policy", "bisect", lookahead=25)
    state = checkpoint.dump(checkpoint.starting_state(policy, policy.initial_state(), Budget()))
    ray.init(address="local", include_dashboard=False, logging_level="ERROR")
    header()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = str(folder / "x.db")
        writer = ray.remote(num_cpus=0)(Writer).remote(path, temporary)
        clients = []
        with SqliteIndex(path, root=temporary) as index:
            for number in range(asked.clients):
                place = folder / f"{number}.mp4"
                place.write_bytes(Path(asked.video).read_bytes() + bytes([number]))
                media = index.describe(str(place))
                index.register(media, "h")
                media = ray.get(writer.begin.remote(media, "h"))
                results: list[WindowResult] = []
                run_stream(
                    VideoAv(asked.video, stream=place.name), policy, recognizer,
                    on_window=results.append,
                )  # fmt: skip
                looks = sum(len(result.outcomes) for result in results) / len(results)
                mine = [results[k % len(results)] for k in range(asked.windows)]
                clients.append(Client.remote(writer, media, mine))  # type: ignore[attr-defined]
        ray.get([client.ready.remote() for client in clients])
        began = time.perf_counter()
        count = sum(ray.get([client.send.remote(state) for client in clients]))
        seconds = time.perf_counter() - began
    print(f"{count} windows of {looks:.1f} outcomes, {len(state)} bytes of checkpoint")
    print(f"{count / seconds:.0f} windows a second, {1e3 * seconds / count:.2f} ms each")


if __name__ == "__main__":
    main()
