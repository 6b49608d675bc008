"""Every video agent on every task, over folds and seeds; a run that was cut short goes on.

```
OUT/features/                             full passes, see `video_features`
OUT/fold-0/streams/train, test            joined, see `untrimmed_set`
OUT/fold-0/queries/test
OUT/fold-0/seed-0/scsampler.safetensors   an agent that has seen nothing of the fold
OUT/fold-0/streams/watched.jsonl          see `bench_actions`; in queries and clips-0 too
OUT/agreement/03-vtest.safetensors        learned_bisect that has not seen the video
OUT/agreement/rows.jsonl
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from streamdyn.clips.clip_set import ClipSet, read_clips
from streamdyn.clips.features import VideoFeatures
from streamdyn.config import PartConfig, RunConfig, parse_part
from streamdyn.errors import ConfigError, SourceError
from streamdyn.index.placing import write_explained
from streamdyn.learning.perceptrons import PerceptronRecipe
from streamdyn.nn.weights import load_weights, save_weights
from streamdyn.pipelines.bench_actions import DENSE, KNOWN, Known, Watched, bench_actions
from streamdyn.pipelines.clip_controls import ClipControls, clip_controls
from streamdyn.pipelines.compare_policies import bench
from streamdyn.pipelines.labelled_videos import Labelled, labelled_videos
from streamdyn.pipelines.row_file import Row, RowFile
from streamdyn.pipelines.train_bisect import SHORT, explored, fit
from streamdyn.pipelines.train_video import LOOKING, Taught, teach, train_labelled
from streamdyn.pipelines.untrimmed_set import make_streams
from streamdyn.pipelines.video_features import video_features
from streamdyn.protocols import Recognizer
from streamdyn.recognizers.actions import Actions
from streamdyn.recognizers.actions_gru import ActionsGru

TASKS = ("clips", "streams", "queries", "agreement")
NUM_FOLDS = 5
CLIPS_SEARCHED = 20
"""In a stream, or all of a fold where there are fewer."""
OF_CLIPS = (
    DENSE, "uniform_k:k=1", "uniform_k:k=2", "uniform_k:k=4", "uniform_k:k=8", "first_k:k=1",
    "frame_exit:confidence=0.5", "frame_exit", "frame_exit:k=4,confidence=0.7",
)  # fmt: skip
OF_STREAMS = (
    DENSE, "uniform_k:k=2", "uniform_k:k=4", "uniform_k:k=8", "uniform_k:k=12", "uniform_k:k=16",
    "uniform_k:k=24", "random:share=0.032", "known:k=1", "known:k=12",
)  # fmt: skip
LEARNED = (
    "scsampler:k=4", "scsampler:k=8", "scsampler:k=12", "ocsampler:k=8", "ocsampler:k=12",
    "marl:k=8", "marl:k=12", "adaframe:k=4", "adaframe", "ffnet", "skip_rnn", "liteeval:k=1",
    "liteeval", "liteeval:context=4", "liteeval by gumbel",
)  # fmt: skip
"""Of streams; each trained from every seed, by the truth where no other learner is named."""
OTHER_HEADS = ("mean", "gru")
OF_HEADS = ("uniform_k:k=12", "liteeval", "liteeval:context=4")
"""Of streams, by each head, with agents of the first seed."""
OF_QUERIES = (
    DENSE, "uniform_k:k=10", "uniform_k:k=20", "uniform_k:k=40", "random:share=0.03",
    "query_search:query=any", "query_search:query=any,k=30",
)  # fmt: skip
OF_VIDEOS = (
    "stride:every=10", "stride:every=20", "stride:every=40",
    *(f"{name}:max_doubt={doubt}" for name in ("bisect", "learned_bisect")
      for doubt in (3, 7, 15, 30)),
    "bisect:lookahead=25,max_doubt=15", "learned_bisect:lookahead=25,max_doubt=15",
)  # fmt: skip
OnStep = Callable[[str], None]


@dataclass(slots=True)
class Measured:
    """Rows of each task; a policy is `name@seed` where it has seeds."""

    clips: list[Watched] = field(default_factory=list)
    controls: list[ClipControls] = field(default_factory=list)
    streams: list[Watched] = field(default_factory=list)
    heads: list[Watched] = field(default_factory=list)
    """Of the streams too; a policy is `name by head`."""
    queries: list[Watched] = field(default_factory=list)
    agreement: list[Row] = field(default_factory=list)


@dataclass(slots=False)
class AgentBench:
    """What is to be measured, and where it is kept.

    Args:
        clips: Folder of labelled clips.
        idle: Videos without any of their actions.
        videos: For the agreement with a full pass; each is judged by an agent taught on the others.
        out: Folder of everything that is made.
        config: Recognizer, which must give embeddings as lite0 does, and device.
        folds: To measure.
        seeds: Of the agents, and of the ways in which clips are split.
        num_train: Streams of a fold to train on.
        num_test: Streams of a fold to be judged on.
        num_searched: Streams of a fold of many clips each.
        on_step: Told what is done now.
    """

    clips: Path
    idle: Sequence[Path]
    videos: Sequence[str]
    out: Path
    config: RunConfig
    folds: Sequence[int] = tuple(range(NUM_FOLDS))
    seeds: int = 3
    num_train: int = 120
    num_test: int = 60
    num_searched: int = 20
    on_step: OnStep = lambda step: None
    _features: dict[str, VideoFeatures] = field(default_factory=dict, init=False)

    def run(self, tasks: Sequence[str] = TASKS) -> Measured:
        """Measure what is not measured yet; gives old rows and new ones.

        Raises:
            ConfigError: Too few clips or videos for what is asked.
            SourceError: A file cannot be read.
            StoreError: The folder cannot be written.
        """
        found = Measured()
        for fold in self.folds:
            if "clips" in tasks:
                self._clips(fold, found)
            if "streams" in tasks:
                self._streams(fold, found)
            if "queries" in tasks:
                found.queries += self._queries(fold)
        if "agreement" in tasks:
            found.agreement += self._agreement()
        return found

    # Tasks.

    def _clips(self, fold: int, found: Measured) -> None:
        """Each seed splits the clips in another way."""
        for seed in range(self.seeds):
            folder = self._folder(fold) / f"clips-{seed}"
            taught = labelled_videos([self.clips], without_fold=fold, seed=seed)
            asked = labelled_videos([self.clips], only_fold=fold, seed=seed)
            model = folder / "actions.safetensors"
            if not model.exists():
                self.on_step(f"fold {fold}, split {seed}: actions")
                train_labelled("actions", self._paired(taught), model, seed=seed)
            recognizer = self._judge(model)
            found.controls.append(
                clip_controls(
                    self._paired(taught), self._paired(asked), load_weights(str(model), "actions")
                )
            )
            policies = {f"{name}@{seed}": _built(name) for name in OF_CLIPS}
            found.clips += bench_actions(asked, recognizer, policies, folder, on_step=self.on_step)

    def _streams(self, fold: int, found: Measured) -> None:
        folder = self._folder(fold) / "streams"
        make_streams(
            self._set, self.idle, folder, share=1 / 11, num_train=self.num_train,
            num_test=self.num_test, fold=fold, on_stream=lambda path: self.on_step(str(path)),
        )  # fmt: skip
        policies: dict[str, Any] = {name: _built(name) for name in OF_STREAMS}
        taught: Taught | None = None
        # Every agent is judged with the head of the first seed.
        wanted = [("actions", 0), ("actions_gru", 0)]
        wanted += [
            (name, s) for s in range(self.seeds) for name in (*LOOKING, "liteeval by gumbel")
        ]
        for name, seed in wanted:
            agent, _, learner = name.partition(" by ")
            target = self._weights(fold, name, seed)
            if not target.exists():
                videos = labelled_videos([self.clips, folder / "train"], without_fold=fold)
                pairs = self._paired(videos)
                if taught is None:
                    taught = teach(pairs, 0, self.on_step)
                self.on_step(f"fold {fold}, seed {seed}: {name}")
                train_labelled(
                    agent, pairs, target, seed=seed, taught=taught, learner=learner or "truth"
                )
        for seed in range(self.seeds):
            for name in LEARNED:
                agent = name.partition(":")[0]
                weights = str(self._weights(fold, agent, seed))
                policies[f"{name}@{seed}"] = _built(name.partition(" by ")[0], model=weights)
        model = self._weights(fold, "actions", 0)
        asked = labelled_videos([folder / "test"])
        found.streams += bench_actions(
            asked, self._judge(model), policies, folder, on_step=self.on_step
        )
        for head in OTHER_HEADS:
            other = (
                ActionsGru(model=str(self._weights(fold, "actions_gru", 0)))
                if head == "gru"
                else Actions(model=str(model), pool="mean")
            )
            other.setup(self.config.device)
            some = {name: policies.get(name) or policies[f"{name}@0"] for name in OF_HEADS}
            rows = bench_actions(asked, other, some, folder, on_step=self.on_step)
            found.heads += [replace(row, policy=f"{row.policy} by {head}") for row in rows]

    def _queries(self, fold: int) -> list[Watched]:
        folder = self._folder(fold) / "queries"
        model = self._weights(fold, "actions", 0)
        if not model.exists():
            raise ConfigError(f"queries are judged by {model}; measure the task streams first")
        num_clips = min(CLIPS_SEARCHED, int((self._set.folds(NUM_FOLDS) == fold).sum()))
        make_streams(
            self._set, [], folder, share=1, num_train=0, num_test=self.num_searched,
            clips_per_stream=num_clips, fold=fold, on_stream=lambda path: self.on_step(str(path)),
        )  # fmt: skip
        policies = {name: _built(name) for name in OF_QUERIES}
        asked = labelled_videos([folder / "test"])
        recognizer = self._judge(model, alone=True)
        found: list[Watched] = bench_actions(
            asked, recognizer, policies, folder, queries=True, on_step=self.on_step
        )
        return found

    def _agreement(self) -> list[Row]:
        folder = self.out / "agreement"
        file = RowFile(folder / "rows.jsonl")
        videos = list(self._kept(self.videos))
        long = [video for video in videos if len(video) >= SHORT]
        if len(long) < 2:
            raise ConfigError(
                f"agreement takes two videos of {SHORT} pictures at least, to leave one out; got "
                f"{len(long)} of {len(self.videos)}"
            )
        with write_explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        intervals: list[Any] | None = None
        for number, video in enumerate(long):
            model = folder / f"{number:02}-{Path(video.path).stem}.safetensors"
            if not model.exists():
                if intervals is None:
                    self.on_step("intervals of all videos")
                    clips = [features for _, features in self._paired(self._all_clips)]
                    intervals = explored([*long, *clips], self._recognizer, 0)
                self.on_step(f"learned_bisect without {video.path}")
                rest = [part for place, part in enumerate(intervals) if place != number]
                save_weights(model, "learned_bisect", fit(rest, PerceptronRecipe()), {})
            done = {(row["path"], row["policy"]) for row in file.read()}
            policies = {
                name: _built(name, **({"model": str(model)} if name.startswith("learned") else {}))
                for name in OF_VIDEOS
                if (video.path, name) not in done
            }
            if not policies:
                continue
            report = bench([video.path], self.config, policies, on_step=self.on_step)
            for name in policies:
                run = report.policies[name][video.path]
                file.add({"path": video.path, "policy": name, **run.as_dict()})
        rows: list[Row] = file.read()
        return rows

    # What they need.

    def _folder(self, fold: int) -> Path:
        return self.out / f"fold-{fold}"

    def _weights(self, fold: int, agent: str, seed: int) -> Path:
        file = f"{agent.replace(' by ', '-')}.safetensors"
        return self._folder(fold) / f"seed-{seed}" / file

    @cached_property
    def _set(self) -> ClipSet:
        return read_clips(self.clips)

    @cached_property
    def _all_clips(self) -> list[Labelled]:
        found: list[Labelled] = labelled_videos([self.clips])
        return found

    @cached_property
    def _recognizer(self) -> Recognizer:
        model = self.config.build_recognizer()
        model.setup(self.config.device)
        return model

    def _judge(self, model: Path, alone: bool = False) -> Actions:
        """Outcomes are few labels of all looks so far, or every label of each picture alone."""
        recognizer = Actions(model=str(model), alone=alone, top_k=10_000 if alone else 5)
        recognizer.setup(self.config.device)
        return recognizer

    def _paired(self, videos: Sequence[Labelled]) -> list[tuple[Labelled, VideoFeatures]]:
        paths = [str(video.path) for video in videos]
        missing = [path for path in paths if path not in self._features]
        for features in self._kept(missing):
            self._features[features.path] = features
        return [(video, self._features[path]) for video, path in zip(videos, paths, strict=True)]

    def _kept(self, paths: Sequence[str]) -> Iterator[VideoFeatures]:
        def failed(path: str, reason: str) -> None:
            raise SourceError(reason)

        found: Iterator[VideoFeatures] = video_features(
            paths,
            self.out / "features",
            self._recognizer,
            on_file=lambda path, items: None if items else self.on_step(f"watching {path}"),
            on_failure=failed,
        )
        return found


def _built(name: str, **options: Any) -> Any:
    part = PartConfig(**parse_part(name))
    return Known(**part.options) if part.name == KNOWN else part.build("policy", **options)
