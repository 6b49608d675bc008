"""What a bench measured: runs over files, pooled figures, hindsight bars, and a plot of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from streamdyn.pipelines.plots import save_plot
from streamdyn.receipt import STAGES, Receipt

STRIDES = (*range(1, 61), *range(62, 121, 2), *range(125, 401, 5))


@dataclass(slots=True)
class Run:
    """One policy over one file."""

    num_items: int
    num_recognized: int
    """Chosen by the policy."""
    num_audits: int
    """Looked at after all, on top."""
    num_agreeing: float
    """Sum of the agreement over all items that the full pass could recognize."""
    num_compared: int
    wall_ms: list[float]
    """One a repetition."""
    full_wall_ms: list[float]
    """Of the full pass in the same repetitions."""
    receipt: Receipt
    """Of the last repetition, plan and audits."""

    @staticmethod
    def pool(runs: Sequence[Run]) -> Run:
        """Files as one: counts and times add up."""
        return Run(
            sum(r.num_items for r in runs),
            sum(r.num_recognized for r in runs),
            sum(r.num_audits for r in runs),
            sum(r.num_agreeing for r in runs),
            sum(r.num_compared for r in runs),
            [sum(t) for t in zip(*(r.wall_ms for r in runs), strict=True)],
            [sum(t) for t in zip(*(r.full_wall_ms for r in runs), strict=True)],
            sum((r.receipt for r in runs), Receipt()),
        )

    @property
    def share(self) -> float:
        """Recognizer calls per item, audits included."""
        return (self.num_recognized + self.num_audits) / self.num_items

    @property
    def agreement(self) -> float:
        """With the full pass, over all items."""
        return self.num_agreeing / self.num_compared if self.num_compared else 1.0

    @property
    def ratios(self) -> list[float]:
        """Full pass over this run in wall time, one a repetition."""
        return [full / own for full, own in zip(self.full_wall_ms, self.wall_ms, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """The figures a table shows, and what they come from."""
        stages = {s: round(getattr(self.receipt, f"{s}_ms"), 1) for s in STAGES}
        return {
            **{k: v for k, v in asdict(self).items() if k != "receipt"},
            "share": self.share,
            "agreement": self.agreement,
            "ratio": median(self.ratios),
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "stage_ms": stages,
            "num_decoded": self.receipt.num_decoded,
            "num_converted": self.receipt.num_converted,
            "chosen_only_ms": round(self.receipt.convert_ms + self.receipt.recognize_ms, 1),
        }


@dataclass(slots=True)
class Hindsight:
    """What the full pass over a file says about policies that cannot exist or need luck."""

    num_items: int
    num_compared: int
    stride_agreeing: dict[int, float]
    """Stride → sum of the agreement."""
    oracle_calls: int
    """Greedy: an item is processed only when the last processed outcome would disagree."""
    demux_ms: float
    """Reading the packets and nothing else: no run can be faster."""


@dataclass(slots=True)
class BenchReport:
    """Everything a bench measured."""

    recognizer: str
    propagation: str
    repeats: int
    full: dict[str, Run] = field(default_factory=dict)
    """File → full pass."""
    policies: dict[str, dict[str, Run]] = field(default_factory=dict)
    """Policy → file → run."""
    hindsight: dict[str, Hindsight] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def best_stride(
        self, agreement: float, files: Iterable[str] | None = None
    ) -> tuple[int, float]:
        """The longest stride with at least this agreement, pooled, and its share of items."""
        chosen = [self.hindsight[f] for f in (files or self.hindsight)]
        total = sum(h.num_compared for h in chosen)
        for stride in sorted(STRIDES, reverse=True):
            if sum(h.stride_agreeing[stride] for h in chosen) >= agreement * total:
                break
        items = sum(h.num_items for h in chosen)
        return stride, sum(-(-h.num_items // stride) for h in chosen) / items

    def stride_curve(self) -> list[tuple[int, float, float]]:
        """Stride, share, pooled agreement."""
        total = sum(h.num_compared for h in self.hindsight.values())
        items = sum(h.num_items for h in self.hindsight.values())
        return [
            (
                stride,
                sum(-(-h.num_items // stride) for h in self.hindsight.values()) / items,
                sum(h.stride_agreeing[stride] for h in self.hindsight.values()) / total,
            )
            for stride in STRIDES
        ]

    def oracle_share(self, files: Iterable[str] | None = None) -> float:
        """Share of items the greedy oracle needs for an agreement of 1."""
        chosen = [self.hindsight[f] for f in (files or self.hindsight)]
        return sum(h.oracle_calls for h in chosen) / sum(h.num_items for h in chosen)

    def as_dict(self) -> dict[str, Any]:
        """The whole report as JSON values."""
        pooled = {name: Run.pool(list(runs.values())) for name, runs in self.policies.items()}
        return {
            "recognizer": self.recognizer,
            "propagation": self.propagation,
            "repeats": self.repeats,
            "files": {
                file: {
                    "full": full.as_dict(),
                    "demux_only_ms": self.hindsight[file].demux_ms,
                    "oracle_share": self.oracle_share([file]),
                    "policies": {
                        name: self._with_stride(runs[file], [file])
                        for name, runs in self.policies.items()
                    },
                }
                for file, full in self.full.items()
            },
            "pooled": {
                "full": Run.pool(list(self.full.values())).as_dict(),
                "demux_only_ms": sum(h.demux_ms for h in self.hindsight.values()),
                "oracle_share": self.oracle_share(),
                "policies": {name: self._with_stride(run, None) for name, run in pooled.items()},
                "stride_curve": self.stride_curve(),
            },
            "failures": self.failures,
        }

    def _with_stride(self, run: Run, files: Sequence[str] | None) -> dict[str, Any]:
        stride, share = self.best_stride(run.agreement, files)
        return {**run.as_dict(), "equal_stride": stride, "equal_stride_share": share}


def plot(report: BenchReport, target: Path) -> None:
    """Agreement against share recognized, pooled, as PNG or SVG by the suffix of `target`.

    Raises:
        ConfigError: Another suffix.
        StoreError: The file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    curve = report.stride_curve()
    axes.plot(
        [share for _, share, _ in curve],
        [agreement for *_, agreement in curve],
        color="0.6",
        label="any stride (hindsight)",
        zorder=1,
    )
    for name, runs in report.policies.items():
        run = Run.pool(list(runs.values()))
        label = f"{name}: {median(run.ratios):.1f}x"
        axes.scatter([run.share], [run.agreement], s=60, label=label, zorder=2)
    oracle = report.oracle_share()
    axes.axvline(oracle, color="0.8", linestyle=":", label="greedy oracle's share")
    axes.set(
        xscale="log",
        xlabel="share of items recognized, audits included",
        ylabel="agreement with the full pass",
        title=f"{report.recognizer}, {len(report.full)} files, "
        f"{sum(r.num_items for r in report.full.values())} items; "
        "x: wall time of the full pass over the run's",
    )
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save_plot(figure, target, dpi=150)
