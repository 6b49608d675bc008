"""A million tokens through a file that grows: tokens a second, and whether memory stays flat.

`streamdyn watch` follows a file that is being written; the agent `idf` chooses a fifth of the
tokens, which a trained reader reads. Everything is stored: windows, outcomes, checkpoints.

    python benchmarks/followed_text.py TEXT... [--tokens 1000000] [--share 0.2]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import measuring

from streamdyn.job import load_job
from streamdyn.pipelines.stream_job import StreamJob
from streamdyn.sources.tokens import tokens_of

PIECE = 1 << 16


def resident_mb() -> float:
    """Of this process, now."""
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in s)
    return int(line.split()[1]) / 1024


def text_of(paths: list[Path], count: int) -> str:
    """The texts over and over until they hold so many tokens."""
    texts = "\n".join(path.read_text("utf-8", "replace") for path in paths) + "\n"
    each = sum(len(words) for _, words in tokens_of([texts]))
    return texts * (count // each + 1)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--model", default="movie-sentiment")
    asked = parser.parse_args()
    measuring.header()
    text = text_of(asked.texts, asked.tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "grows.txt"
        file.touch()
        job_file = folder / "job.yaml"
        job_file.write_text(
            json.dumps(
                {
                    "index": "live.db",
                    "policy": {"name": "idf", "share": asked.share, "lookahead": 2048},
                    "recognizer": {"name": "recurrent", "model": asked.model},
                    "streams": {
                        "text": {
                            "url": str(file),
                            "kind": "text",
                            "source": {"block_size": 2048},
                        }
                    },
                    "ops": {"port": 0},
                }
            )
        )
        job = StreamJob(load_job(job_file))
        thread = threading.Thread(target=job.run)
        thread.start()

        def done() -> int:
            return sum(stream["frames"] for stream in job.status()["streams"])

        with file.open("w") as out:
            out.write(text[:PIECE])
            out.flush()
            while done() == 0:
                time.sleep(0.05)
            began, before = time.perf_counter(), done()
            memory: list[tuple[int, float]] = []
            for start in range(PIECE, len(text), PIECE):
                out.write(text[start : start + PIECE])
            out.flush()
            tenth = asked.tokens // 10
            while done() < asked.tokens:
                if done() >= tenth * (len(memory) + 1):
                    memory.append((done(), resident_mb()))
                time.sleep(0.05)
            took = time.perf_counter() - began
            rate = (done() - before) / took
        status = job.status()["streams"][0]
        job.stop()
        thread.join()
    print(
        f"{status['frames']:,} tokens, {status['process'] / status['frames']:.1%} read, "
        f"{took:.1f} s: {rate:,.0f} tokens/s"
    )
    spent = job.receipts()["text"]
    print(
        "  "
        + ", ".join(
            f"{name[:-3]} {ms / 1000:.1f} s"
            for name, ms in spent.as_dict().items()
            if name.endswith("_ms") and ms
        )
    )
    for tokens, megabytes in memory:
        print(f"  after {tokens:9,} tokens: {megabytes:.0f} MB")
    growth = memory[-1][1] / memory[1][1]
    measuring.verdict("tokens a second", rate, 50_000, at_most=False)
    measuring.verdict("memory at 90 % over 20 %", growth, 1.02, at_most=True)


if __name__ == "__main__":
    main()
