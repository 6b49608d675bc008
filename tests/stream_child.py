"""`streamdyn` with the recognizers of `stream_parts`: python -m tests.stream_child."""

from __future__ import annotations

from streamdyn.cli import main
from tests import stream_parts  # noqa: F401  registers them

if __name__ == "__main__":
    main()
