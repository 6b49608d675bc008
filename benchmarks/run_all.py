"""Run every benchmark and write what they print to docs/benchmarks.md.

The argument is a folder of videos; beside it is `docs`, the folder of texts that `skim.py` reads.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
INTRODUCTION = """# Benchmarks

What the programs in `benchmarks/` printed on {date}, misses included; made by
`python benchmarks/run_all.py`. Each figure is a median with the smallest and the largest value in
brackets. Ratios are paired: both sides ran in one process, in turn. The videos are 16 public files
of 68 to 1,700 pictures (surveillance, traffic, animals, film, animation); they are not part of the
project.

![agreement against share](benchmarks.png)
"""


def commands(folder: Path) -> list[tuple[str, list[str]]]:
    """Heading and arguments of every program."""
    idle, crowd = (
        str(folder / name) for name in ("intel_one-by-one-person-detection.mp4", "vtest.avi")
    )
    return [
        (
            "Policies on real videos",
            ["policies.py", str(folder), "--plot", str(DOCS / "benchmarks.png")],
        ),
        ("What the engine adds", ["engine_overhead.py", idle]),
        ("Skips that skip", ["skips.py", crowd]),
        ("Planning from packets", ["planning.py", idle]),
        ("Memory over two hours", ["memory.py", idle]),
        ("Import", ["import_time.py"]),
        ("Skim", ["skim.py", str(folder.parent / "docs")]),
    ]


def main() -> None:
    """Run them one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    parts = [INTRODUCTION.format(date=datetime.now(UTC).date())]
    for heading, arguments in commands(args.folder):
        print(f"running {shlex.join(arguments)}", file=sys.stderr)
        done = subprocess.run(
            [sys.executable, *arguments], cwd=HERE, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{arguments[0]} failed: {done.stderr}")
        parts.append(f"## {heading}\n\n```text\n{done.stdout.rstrip()}\n```\n")
    (DOCS / "benchmarks.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
