"""What `import streamdyn` costs in a fresh interpreter, and that it loads nothing heavy."""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

from measuring import header, spread, verdict

HEAVY = {"av", "decord", "ray", "torch", "torchaudio", "transformers"}
PROGRAM = (
    "import sys, time; t = time.perf_counter(); import streamdyn; "
    "print(time.perf_counter() - t, *sys.modules)"
)


def main() -> None:
    """Measure in fresh interpreters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    header()
    seconds = []
    for _ in range(args.repeats):
        printed = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
        ).stdout.split()
        seconds.append(float(printed[0]))
        loaded = HEAVY & {name.split(".")[0] for name in printed[1:]}
    print(
        f"import streamdyn: {spread(seconds, ' s')}; of the heavy packages it loads: "
        f"{', '.join(sorted(loaded)) or 'none'}"
    )
    verdict("import streamdyn, seconds", median(seconds), 1.5, at_most=True)
    verdict("heavy packages loaded", len(loaded), 0, at_most=True)


if __name__ == "__main__":
    main()
