"""Train video agents on features of full passes, and say what they are worth on videos left out.

```
OUT/features/vtest-3f2a….npz    made once, see `video_features`
OUT/learned_bisect.safetensors  the agent
OUT/learned_bisect.md           its card
```
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamdyn.clips.features import VideoFeatures
from streamdyn.errors import ConfigError, UnknownName
from streamdyn.learning.logs import Log, no_log
from streamdyn.learning.perceptrons import PerceptronRecipe
from streamdyn.learning.rounds import NOTHING_KEPT, Rounds
from streamdyn.nn.weights import load_weights, save_weights
from streamdyn.pipelines.rehearsal import Rehearsal
from streamdyn.pipelines.train_actions import Pairs, fit_attention, fit_head, fit_saliency
from streamdyn.pipelines.train_bisect import SHORT, explored, fit, share_at
from streamdyn.pipelines.train_gate import fit_gate
from streamdyn.pipelines.train_gru_head import fit_gru_head
from streamdyn.pipelines.train_looks import (
    PARTS,
    OnRound,
    fit_adaframe,
    fit_ffnet,
    fit_liteeval,
    fit_ocsampler,
)
from streamdyn.pipelines.train_marl import fit_marl
from streamdyn.pipelines.train_skip import EVERY, fit_skip_rnn
from streamdyn.pipelines.unseen_heads import lessons
from streamdyn.recording import Agreeing
from streamdyn.registry import build
from streamdyn.replay import ReplayResult, replay

LOOKING = ("scsampler", "ocsampler", "marl", "adaframe", "ffnet", "skip_rnn", "liteeval")
"""Those that learn where to look."""
HEADS = ("actions", "actions_gru")
"""Recognizers of these names."""
LABELLED = (*HEADS, *LOOKING)
"""Those that learn from labels."""
AGENTS = ("learned_bisect", *LABELLED)
TARGETS = (0.95, 0.96, 0.97, 0.98, 0.99)
KNOBS = (3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0)
"""Values of `max_doubt` that a curve is measured at."""
OnStep = Callable[[str], None]
Taught = tuple[Any, list[Rehearsal]]


def train_agent(
    agent: str,
    videos: Sequence[VideoFeatures],
    recognizer: Agreeing,
    target: Path,
    *,
    seed: int = 0,
    leave_one_out: bool = False,
    command: str = "",
    kept: Rounds = NOTHING_KEPT,
    on_step: OnStep = lambda step: None,
    log: Log = no_log,
) -> dict[str, Any]:
    """Train an agent and write it, with its card beside.

    Args:
        agent: `learned_bisect`.
        videos: To learn from.
        recognizer: Whose outcomes they hold; only its `agree` is used.
        target: The file to write.
        seed: Of weights and order.
        leave_one_out: Train once more for every long video, without it, and compare there.
        command: For the card.
        kept: What was done before.
        on_step: Told what is done now.
        log: Told the loss of every epoch, and what a round was worth.

    Returns:
        What the card says, as plain data.

    Raises:
        ConfigError: Too few videos.
        UnknownName: There is no such agent.
    """
    if agent != "learned_bisect":
        raise UnknownName("video agent that needs no labels", agent, ["learned_bisect"])
    long = [video for video in videos if len(video) >= SHORT]
    if not videos or (leave_one_out and len(long) < 2):
        raise ConfigError(
            f"there are {len(videos)} videos to learn from, {len(long)} of them of {SHORT} items "
            "or more; leaving one out takes two of these, training takes one"
        )
    began = time.perf_counter()
    on_step("intervals")
    intervals = explored(videos, recognizer, seed)
    recipe = PerceptronRecipe(seed=seed)
    on_step("training")
    arrays = fit(intervals, recipe, _told(on_step, log), kept)
    facts: dict[str, Any] = {
        "recognizer": videos[0].recognizer,
        "long_videos": len(long),
        "short_videos": len(videos) - len(long),
        "items": sum(map(len, videos)),
        "intervals": sum(len(part.sizes) for part in intervals),
        "seed": seed,
        "training_seconds": round(time.perf_counter() - began),
        "command": command,
    }
    if leave_one_out:
        curves = _left_out(long, intervals, recipe, recognizer, on_step)
        facts["left_out"] = {
            "items": sum(map(len, long)),
            "targets": list(TARGETS),
            **{
                name: [round(share_at(curve, target), 4) for target in TARGETS]
                for name, curve in curves.items()
            },
        }
    _write(target, agent, arrays, facts)
    return facts


def train_labelled(
    agent: str,
    videos: Pairs,
    target: Path,
    *,
    seed: int = 0,
    taught: Taught | None = None,
    learner: str = "truth",
    command: str = "",
    kept: Rounds = NOTHING_KEPT,
    on_step: OnStep = lambda step: None,
    log: Log = no_log,
) -> dict[str, Any]:
    """Train what learns from labels, and write it with its card beside.

    Args:
        agent: One of `LABELLED`.
        videos: Labelled clips, and untrimmed streams that were joined of them, with their features.
            Without streams `actions` takes the attention that comes with streamdyn.
        target: The file to write.
        seed: Of weights and order.
        taught: What `teach` says of these videos; worked out when it is needed and not given.
        learner: How the gate of `liteeval` learns: by the `truth`, or by `gumbel`.
        command: For the card.
        kept: What was done before.
        on_step: Told what is done now.
        log: Told the loss of every epoch, and what a round was worth.

    Raises:
        ConfigError: There is nothing to learn from.
        UnknownName: There is no such agent.
    """
    if agent not in LABELLED:
        raise UnknownName("agent that learns from labels", agent, LABELLED)
    check_learner(agent, learner)
    began = time.perf_counter()
    on_epoch = _told(on_step, log)
    clips = [pair for pair in videos if pair[0].trimmed]
    facts: dict[str, Any] = {
        "recognizer": videos[0][1].recognizer,
        "clips": len(clips),
        "streams": len(videos) - len(clips),
        "items": sum(len(features) for _, features in videos),
        "seed": seed,
        "command": command,
    }
    if agent in HEADS:
        arrays, labels = fit_head(clips, seed, on_epoch, kept)
        width = build("recognizer", facts["recognizer"].partition("-")[0]).input.width
        facts |= {"labels": labels, "resolution": width}
        if agent == "actions_gru":
            streams = [one.lesson for one in (taught or teach(videos, seed, on_step))[1]]
            arrays = fit_gru_head(streams, arrays, seed, on_epoch, kept)
        elif len(clips) == len(videos):
            arrays["attention"] = load_weights(None, "actions").arrays["attention"]
        else:
            arrays["attention"] = (taught or teach(videos, seed, on_step))[0]
    else:
        rehearsals = (taught or teach(videos, seed, on_step))[1]
        told = _told(on_step, log), _told_worth(on_step, log)
        arrays = _looks(agent if learner == "truth" else learner, rehearsals, seed, *told, kept)
        facts |= {"every": EVERY} if agent == "skip_rnn" else {"parts": PARTS}
    facts["training_seconds"] = round(time.perf_counter() - began)
    _write(target, agent, arrays, facts)
    return facts


def check_learner(agent: str, learner: str) -> None:
    """Whether an agent learns like that.

    Raises:
        ConfigError: It does not.
    """
    if learner != "truth" and (agent, learner) != ("liteeval", "gumbel"):
        raise ConfigError(
            f"{agent} does not learn by {learner!r}; liteeval learns by truth or by gumbel, the "
            "others in one way each"
        )


def teach(videos: Pairs, seed: int = 0, on_step: OnStep = lambda step: None) -> Taught:
    """The attention of `actions`, and what agents rehearse on with it.

    Raises:
        ConfigError: There are no streams, or clips that they were joined of are missing.
    """
    on_step("heads that have not seen a part of the clips")
    labels = tuple(sorted({label for video, _ in videos for label, *_ in video.events}))
    taught = lessons(videos, lambda part: fit_head(part, seed), labels, seed)
    attention = fit_attention(taught, seed)
    return attention, [Rehearsal(lesson, attention) for lesson in taught]


def _looks(
    agent: str,
    taught: Sequence[Rehearsal],
    seed: int,
    on_epoch: OnRound,
    on_round: OnRound,
    kept: Rounds,
) -> dict[str, Any]:
    in_rounds = {
        "adaframe": fit_adaframe,
        "ffnet": fit_ffnet,
        "skip_rnn": fit_skip_rnn,
        "marl": fit_marl,
        "gumbel": fit_gate,
    }
    arrays: dict[str, Any]
    if agent in in_rounds:
        arrays = in_rounds[agent](taught, seed, on_round, kept=kept)
    elif agent == "liteeval":
        arrays = fit_liteeval(taught, seed, on_epoch, kept)
    else:
        arrays = fit_saliency([one.lesson for one in taught], seed, on_epoch, kept)
    return (
        fit_ocsampler(taught, arrays, seed, on_round, kept=kept) if agent == "ocsampler" else arrays
    )


def _told_worth(on_step: OnStep, log: Log) -> OnRound:
    def told(number: int, worth: float) -> None:
        on_step(f"round {number}: {worth:.3f}")
        log("worth", number, worth)

    return told


def _told(on_step: OnStep, log: Log) -> OnRound:
    def told(epoch: int, loss: float) -> None:
        on_step(f"epoch {epoch}: loss {loss:.3f}")
        log("loss", epoch, loss)

    return told


def _write(target: Path, agent: str, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    save_weights(target, agent, arrays, facts)
    target.with_suffix(".md").write_text(card(agent, facts), "utf-8")


def _left_out(
    long: Sequence[VideoFeatures],
    intervals: Sequence[Any],
    recipe: PerceptronRecipe,
    recognizer: Agreeing,
    on_step: OnStep,
) -> dict[str, list[tuple[float, float]]]:
    """Policy → (agreement, share) at each knob, of long videos by agents trained on the rest."""
    measured: dict[str, dict[float, list[ReplayResult]]] = {"bisect": {}, "learned_bisect": {}}
    with tempfile.TemporaryDirectory() as folder:
        for left_out, video in enumerate(long):
            on_step(f"without {Path(video.path).name}")
            rest = [part for k, part in enumerate(intervals) if k != left_out]
            model = Path(folder) / f"{left_out}.safetensors"
            save_weights(model, "learned_bisect", fit(rest, recipe), {})
            recording = video.recording()
            for name, options in (("bisect", {}), ("learned_bisect", {"model": str(model)})):
                for knob in KNOBS:
                    policy = build("policy", name, max_doubt=knob, **options)
                    found = replay(recording, policy, recognizer)
                    measured[name].setdefault(knob, []).append(found)
    return {name: [_pooled(runs) for runs in by.values()] for name, by in measured.items()}


def _pooled(runs: Sequence[ReplayResult]) -> tuple[float, float]:
    """Agreement and share."""
    agreeing = sum(run.agreement * run.num_compared for run in runs)
    agreement = agreeing / sum(run.num_compared for run in runs)
    return agreement, sum(run.num_processed for run in runs) / sum(run.num_items for run in runs)


def card(agent: str, facts: Mapping[str, Any]) -> str:
    """The card of a trained agent, Markdown."""
    learned = (
        f"{facts['long_videos']} videos and {facts['short_videos']} short clips: "
        f"{facts['items']:,} items, {facts['intervals']:,} intervals"
        if "intervals" in facts
        else f"{facts['clips']} clips and {facts['streams']} untrimmed streams: "
        f"{facts['items']:,} items"
    )
    lines = [
        f"# {agent}",
        "",
        f"- trained on full passes of {facts['recognizer']} over {learned}",
        f"- training: {facts['training_seconds']} s on one core, seed {facts['seed']}",
        f"- command: `{facts['command']}`",
        "- figures: docs/agents.md",
    ]
    if "labels" in facts:
        lines.append(f"- labels: {', '.join(facts['labels'])}")
    left = facts.get("left_out")
    if left:
        names = [name for name in left if name not in ("items", "targets")]
        lines += [
            "",
            f"Share of the items looked at for an agreement with the full pass, pooled over the "
            f"{facts['long_videos']} videos ({left['items']:,} items), each judged by an agent "
            "trained on the others; worked out from the recorded full passes:",
            "",
            "| agreement | " + " | ".join(names) + " |",
            "|---|" + "---|" * len(names),
        ]
        for place, target in enumerate(left["targets"]):
            row = " | ".join(f"{left[name][place]:.2%}" for name in names)
            lines.append(f"| {target:.2f} | {row} |")
    return "\n".join(lines) + "\n"
