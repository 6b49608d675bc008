"""What the engine adds to a hand-written loop that does the same work at the same batch size.

Both sides decode the same packets on one thread, convert to 160x160 RGB with the same scaler, and
run the same network in batches of 16. The hand-written side keeps nothing but the best labels.
"""

from __future__ import annotations

import argparse

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from measuring import header, paired, spread, verdict

from streamdyn.protocols import Policy, Recognizer
from streamdyn.registry import build
from streamdyn.run.local import run_stream


def hand_written(video: str, recognizer: Recognizer, *, keyframes: bool) -> int:
    """The loop that a user would write; returns the number of recognized pictures."""
    reformatter, batch, count = VideoReformatter(), [], 0
    with av.open(video) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        if keyframes:
            stream.codec_context.skip_frame = "NONKEY"
        for frame in container.decode(stream):
            small = reformatter.reformat(frame, 160, 160, "rgb24", interpolation="BILINEAR")
            batch.append(small.to_ndarray())
            if len(batch) == recognizer.batch_size:
                count += recognize(recognizer, batch)
                batch = []
        if batch:
            count += recognize(recognizer, batch)
    return count


def recognize(recognizer: Recognizer, batch: list[np.ndarray]) -> int:
    """Run the network on a batch; the labels are dropped."""
    forward = recognizer._loaded[1]
    probabilities, _ = forward(np.stack(batch))
    return len(np.argsort(-probabilities, axis=1)[:, :5])


def streamdyn_run(video: str, policy: Policy, recognizer: Recognizer) -> int:
    """The same through the engine."""
    source = build("source", "video_av", path=video, on_corrupt="skip")
    return run_stream(source, policy, recognizer).receipt.num_processed


def main() -> None:
    """Measure both pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    header()
    recognizer = build("recognizer", "lite0")
    recognizer.setup("cpu")
    for name, options, keyframes, limit in (
        ("stride", {"every": 1}, False, 1.10),
        ("keyframe", {}, True, 1.15),
    ):
        policy = build("policy", name, **options)
        counts = (
            streamdyn_run(args.video, policy, recognizer),
            hand_written(args.video, recognizer, keyframes=keyframes),
        )
        if counts[0] != counts[1]:
            raise SystemExit(f"not the same work: streamdyn and the loop recognized {counts}")
        ours, theirs = paired(
            lambda policy=policy: streamdyn_run(args.video, policy, recognizer),
            lambda keyframes=keyframes: hand_written(args.video, recognizer, keyframes=keyframes),
            args.repeats,
        )
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{name}: {counts[0]} pictures; streamdyn {spread(ours, ' s')}, "
            f"hand-written {spread(theirs, ' s')}, ratio {spread(ratios)}"
        )
        verdict(
            f"{name} run over its hand-written loop",
            sorted(ratios)[len(ratios) // 2],
            limit,
            at_most=True,
        )


if __name__ == "__main__":
    main()
