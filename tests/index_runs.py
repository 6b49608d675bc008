"""A folder of clips indexed by one runner or another, with a part that kills its process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamdyn.config import RunConfig, load_config
from streamdyn.index import SqliteIndex
from streamdyn.pipelines.video_index import IndexJob, find_videos

PART = Path(__file__).with_name("touchy_part")
BISECT = {"name": "bisect", "max_doubt": 15.0, "lookahead": 40}
TUNING = {"name": "agreement", "target": 0.9, "options": {"lookahead": 40}}


def config_of(policy: dict[str, Any] = BISECT, **options: Any) -> RunConfig:
    """Brightness, or with options `touchy`."""
    audit = 0.15 if policy is TUNING else 0.1
    recognizer = {"name": "touchy", **options} if options else {"name": "brightness"}
    return load_config(None, {"recognizer": recognizer, "policy": policy, "audit": audit})


def rows_of(
    folder: Path, path: Path, config: RunConfig, kind: Any = IndexJob, **options: Any
) -> tuple[Any, dict[str, str]]:
    """Index the folder; answers the rows, and the failures."""
    with SqliteIndex(path, root=folder.parent) as index:
        failures = kind(index, config, **options).run(find_videos([str(folder)])).failures
        return index.rows(), failures
