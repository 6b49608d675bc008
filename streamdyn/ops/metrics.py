"""What a stream job tells Prometheus; names follow its rules, labels are few and bounded.

`skip` is the policy's choice, `drop` overload, `error` a failed decode: three counters.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from streamdyn import __version__
from streamdyn.receipt import ACTIONS, STAGES, Receipt
from streamdyn.run.stream_worker import Stored

_LATENCIES_SECONDS = (0.1, 0.2, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 5, 10, 30, 60)
_STAGES_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)


disable_created_metrics()  # type: ignore[no-untyped-call]


class JobMetrics:
    """The metrics of one job; may be told by several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(name, says, labels, registry=self.registry)

        def gauge(name: str, says: str, *labels: str) -> Gauge:
            return Gauge(name, says, labels, registry=self.registry)

        self._frames = counter(
            "streamdyn_frames_total",
            "Frames by what became of them: skip is the policy, drop overload, error decoding.",
            "stream", "action",
        )  # fmt: skip
        self._media = counter(
            "streamdyn_media_seconds_total", "Time of the stream that was watched.", "stream"
        )
        self._stages = Histogram(
            "streamdyn_stage_duration_seconds",
            "Work of a window, by stage.",
            ("stage",),
            buckets=_STAGES_SECONDS,
            registry=self.registry,
        )
        self._latency = Histogram(
            "streamdyn_e2e_latency_seconds",
            "From the arrival of the first frame of a window to its being stored.",
            ("stream",),
            buckets=_LATENCIES_SECONDS,
            registry=self.registry,
        )
        self.up = gauge("streamdyn_stream_up", "1 while frames come.", "stream")
        self.last_frame = gauge(
            "streamdyn_last_frame_timestamp_seconds", "When the last frame came.", "stream"
        )
        self.lag = gauge(
            "streamdyn_stream_lag_seconds", "Time of the stream that waits to be watched.", "stream"
        )
        self.checkpoint_age = gauge(
            "streamdyn_checkpoint_age_seconds",
            "Since a window and its checkpoint were stored.",
            "stream",
        )
        self._reconnects = counter(
            "streamdyn_reconnects_total", "Connections made again, by reason.", "stream", "reason"
        )
        self._views = counter(
            "streamdyn_view_changes_total", "Times that the camera looked elsewhere.", "stream"
        )
        self._lost = counter(
            "streamdyn_lost_segments_total", "Segments of HLS that could not be had.", "stream"
        )
        self.saved = gauge(
            "streamdyn_compute_saved_ratio", "Frames that the recognizer did not see.", "stream"
        )
        self.disagreement = gauge(
            "streamdyn_audit_disagreement_ratio",
            "Estimated disagreement with a full pass, by the audits.",
            "stream",
        )
        self.budget = gauge(
            "streamdyn_budget_ratio", "Frames that may be recognized, under load.", "stream"
        )
        self._outputs = counter(
            "streamdyn_outputs_total", "Messages that a sink took, or tries that failed.",
            "sink", "result",
        )  # fmt: skip
        self._told: dict[tuple[Counter, tuple[str, ...]], int] = {}
        gauge("streamdyn_build_info", "The version.", "version").labels(__version__).set(1)

    def window(self, stored: Stored) -> None:
        """A window is stored."""
        # Audits are processed too, but were skipped.
        counts = {action: getattr(stored.receipt, name) for action, name in ACTIONS.items()}
        for action, count in counts.items():
            if count:
                self._frames.labels(stored.stream, action).inc(count)
        self._media.labels(stored.stream).inc(stored.media_seconds)
        self._observe_stages(stored.receipt + stored.audit_receipt)
        if stored.latency_seconds is not None:
            self._latency.labels(stored.stream).observe(stored.latency_seconds)

    def _observe_stages(self, spent: Receipt) -> None:
        for stage in STAGES:
            if milliseconds := getattr(spent, f"{stage}_ms"):
                self._stages.labels(stage).observe(milliseconds / 1000)

    def reconnects(self, stream: str, reason: str, count: int) -> None:
        """Of a stream since its worker began."""
        self._bring_up(self._reconnects, count, stream, reason)

    def views(self, stream: str, count: int) -> None:
        """Changes of a stream's view since its worker began."""
        self._bring_up(self._views, count, stream)

    def lost_segments(self, stream: str, count: int) -> None:
        """Of a stream since its worker began."""
        self._bring_up(self._lost, count, stream)

    def outputs(self, sink: str, result: str, count: int) -> None:
        """Of a sink since the job began."""
        self._bring_up(self._outputs, count, sink, result)

    def _bring_up(self, counter: Counter, count: int, *labels: str) -> None:
        """By what `count` is more than when it was told last."""
        key = counter, labels
        before, self._told[key] = self._told.get(key, 0), count
        # A worker that began anew counts from zero.
        counter.labels(*labels).inc(count - before if count >= before else count)

    def exposition(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
