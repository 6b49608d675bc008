"""What the actors of a job tell Ray's metrics, and through them Prometheus.

Every node of a cluster serves them, with `ray_` before each name. Labels are few and bounded: no
path, no stream.
"""

from __future__ import annotations

from streamdyn.receipt import ACTIONS, STAGES, Receipt

_BATCHES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]
_WAITS_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]


class Metrics:
    """The counters of one actor."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Histogram

        self._frames = Counter(
            "streamdyn_frames_total",
            "Frames by what became of them: skip is the policy, drop overload, error decoding.",
            ("action",),
        )
        self._stages = Counter(
            "streamdyn_stage_seconds_total", "Seconds spent, by stage.", ("stage",)
        )
        self._windows = Counter("streamdyn_windows_total", "Windows that were closed.")
        self._files = Counter(
            "streamdyn_files_total", "Files, and ranges of files, that have ended.", ("result",)
        )
        self._batch = Histogram(
            "streamdyn_batch_size", "Items that a shared recognizer took at once.", _BATCHES
        )
        self._wait = Histogram(
            "streamdyn_queue_seconds", "How long requests wait for it.", _WAITS_SECONDS
        )

    def window(self, spent: Receipt) -> None:
        """A window of a file is closed."""
        self._windows.inc()
        for action, name in ACTIONS.items():
            if count := getattr(spent, name):
                self._frames.inc(count, {"action": action})
        for stage in STAGES:
            if milliseconds := getattr(spent, f"{stage}_ms"):
                self._stages.inc(milliseconds / 1000, {"stage": stage})

    def file(self, failure: str | None) -> None:
        """A file has ended."""
        self._files.inc(tags={"result": "done" if failure is None else "failed"})

    def batch(self, size: int, waits_seconds: list[float]) -> None:
        """A shared recognizer took up requests that had waited so long."""
        self._batch.observe(size)
        for seconds in waits_seconds:
            self._wait.observe(seconds)
