"""What planning from packets costs per item: demux, policy and engine, nothing decoded.

A full run of the policy through the engine, less the stages that work on chosen pictures.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from measuring import header, spread, verdict

from streamdyn.registry import build
from streamdyn.run.local import run_stream


def main() -> None:
    """Measure every policy that needs no picture to decide."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    header()
    recognizer = build("recognizer", "brightness")
    recognizer.setup("cpu")
    for name in ("stride", "keyframe", "packet_motion", "shot", "uniform_k"):
        demux, policy_only, engine = [], [], []
        for _ in range(args.repeats):
            policy = build("policy", name)
            source = build("source", "video_av", path=args.video, on_corrupt="skip")
            started = time.perf_counter()
            receipt = run_stream(source, policy, recognizer).receipt
            wall_us = (time.perf_counter() - started) * 1e6
            n = receipt.num_items
            pictures = receipt.decode_ms + receipt.convert_ms + receipt.recognize_ms
            demux.append(receipt.demux_ms * 1000 / n)
            policy_only.append(receipt.policy_ms * 1000 / n)
            engine.append((wall_us - pictures * 1000) / n)
        print(
            f"{name}: policy {spread(policy_only, ' us')}, demux {spread(demux, ' us')}, "
            f"all but decode, convert, recognize {spread(engine, ' us')} an item"
        )
        verdict(f"planning an item with {name}, us", median(policy_only), 20, at_most=True)
        both = [a + b for a, b in zip(policy_only, demux, strict=True)]
        verdict("the same and reading its packet, us", median(both), 20, at_most=True)


if __name__ == "__main__":
    main()
