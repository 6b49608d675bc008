"""Whether skipping skips: what a keyframe run decodes and converts, against decoding everything.

The video is re-encoded as H.264 with a GOP of 250 first (`--as-is` takes it as it is), since that
is how long GOPs are in the wild.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
from measuring import header, spread, verdict

from streamdyn.items import FrameSpec
from streamdyn.registry import build

SPEC = FrameSpec(160, 160)


def long_gop(video: str, target: str) -> None:
    """Re-encode with x264's defaults: GOP of 250, B-frames."""
    with av.open(video) as source, av.open(target, "w") as out:
        given = source.streams.video[0]
        rate = given.average_rate or Fraction(25)
        stream = out.add_stream("libx264", rate=rate, options={"g": "250", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = given.width, given.height, "yuv420p"
        for frame in source.decode(given):
            frame.pts = None
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def watch(video: str, *, keyframes: bool) -> tuple[int, object]:
    """Materialize all items, or keyframes only; number asked for and the receipt."""
    asked = 0
    source = build("source", "video_av", path=video)
    with closing(source.open()) as cursor:
        receipt = cursor.take_receipt()
        while (block := cursor.next_block()) is not None:
            chosen = [
                block.first + i for i in range(len(block)) if block.keyframe[i] or not keyframes
            ]
            asked += len(cursor.materialize(chosen, SPEC)[0]) if chosen else 0
            cursor.release(block.stop)
            receipt = receipt + cursor.take_receipt()
    return asked, receipt


def main() -> None:
    """Measure decode time and conversions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("--as-is", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    header()
    with tempfile.TemporaryDirectory() as folder:
        video = args.video
        if not args.as_is:
            video = str(Path(folder) / "long_gop.mp4")
            long_gop(args.video, video)
        ratios, walls = [], []
        for _ in range(args.repeats):
            n, full = watch(video, keyframes=False)
            k, keys = watch(video, keyframes=True)
            ratios.append(full.decode_ms / keys.decode_ms)
            walls.append(full.total_ms / keys.total_ms)
        print(
            f"{n} items, {k} keyframes; packets decoded {full.num_decoded} and {keys.num_decoded}"
        )
        print(f"decode time, full over keyframes only: {spread(ratios, 'x')}")
        print(f"demux, decode and convert together:    {spread(walls, 'x')}")
        verdict(
            "decode time of the full run over the keyframe run", median(ratios), 5, at_most=False
        )
        print(
            f"pictures converted: {full.num_converted} of {n} asked for, "
            f"{keys.num_converted} of {k} asked for"
        )
        verdict(
            "pictures converted that nobody chose",
            full.num_converted - n + keys.num_converted - k,
            0,
            at_most=True,
        )


if __name__ == "__main__":
    main()
