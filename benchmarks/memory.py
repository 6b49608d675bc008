"""Peak memory over a two-hour file, made by looping a real one without re-encoding.

The resident size is read after every window; it is flat if the last tenth of the file needs no more
than the second tenth (the first one fills the caches). onnxruntime keeps the memory of the largest
batch it has seen for good, so the largest is run once before.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

import av
import numpy as np
from measuring import header, verdict

from streamdyn.audit import AuditRule
from streamdyn.registry import build
from streamdyn.run.local import run_stream


def loop(video: str, target: str, hours: float) -> float:
    """Copy the packets again and again with shifted times; seconds of the result."""
    with av.open(target, "w") as out:
        stream, shift = None, 0
        while True:
            with av.open(video) as source:
                given = source.streams.video[0]
                stream = stream or out.add_stream_from_template(given)
                end = 0
                for packet in source.demux(given):
                    if packet.size == 0:
                        continue
                    end = max(end, packet.pts + (packet.duration or 1))
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    out.mux(packet)
                shift += end
                if shift * given.time_base >= hours * 3600:
                    return float(shift * given.time_base)


def resident_megabytes() -> float:
    """What this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    """Index the long file and watch the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--policy", default="agreement")
    args = parser.parse_args()
    header()
    with tempfile.TemporaryDirectory() as folder:
        long = str(Path(folder) / "long.mp4")
        seconds = loop(args.video, long, args.hours)
        size = Path(long).stat().st_size / 1e6
        recognizer = build("recognizer", "lite0")
        recognizer.setup("cpu")
        held: list[float] = []
        blank = np.zeros((recognizer.batch_size, 160, 160, 3), np.uint8)
        recognizer._loaded[1](blank)  # The largest batch, whose memory onnxruntime keeps for good.
        summary = run_stream(
            build("source", "video_av", path=long, on_corrupt="skip"),
            build("policy", args.policy),
            recognizer,
            audit=AuditRule(0.004),
            on_window=lambda _: held.append(resident_megabytes()),
        )
    tenth = max(1, len(held) // 10)
    early, late = median(held[tenth : 2 * tenth]), median(held[-tenth:])
    print(
        f"{seconds / 3600:.2f} hours, {size:.0f} MB, {summary.receipt.num_items} items, "
        f"{summary.receipt.share_recognized:.2%} recognized"
    )
    print(
        f"resident MB after each tenth: {[round(held[i]) for i in range(tenth, len(held), tenth)]}"
    )
    print(
        f"median of the second tenth {early:.0f} MB, of the last {late:.0f} MB, "
        f"peak {max(held):.0f} MB"
    )
    verdict("memory of the last tenth over the second", late / early, 1.05, at_most=True)


if __name__ == "__main__":
    main()
