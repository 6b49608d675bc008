"""The command line: one module a group of commands; importing one registers its commands."""

from streamdyn.cli import bench as _bench  # noqa: F401
from streamdyn.cli import bench_actions as _bench_actions  # noqa: F401
from streamdyn.cli import bench_agents as _bench_agents  # noqa: F401
from streamdyn.cli import bench_looks as _bench_looks  # noqa: F401
from streamdyn.cli import demo as _demo  # noqa: F401
from streamdyn.cli import doctor as _doctor  # noqa: F401
from streamdyn.cli import features as _features  # noqa: F401
from streamdyn.cli import files as _files  # noqa: F401
from streamdyn.cli import index as _index  # noqa: F401
from streamdyn.cli import job as _job  # noqa: F401
from streamdyn.cli import join as _join  # noqa: F401
from streamdyn.cli import parts as _parts  # noqa: F401
from streamdyn.cli import replay as _replay  # noqa: F401
from streamdyn.cli import report as _report  # noqa: F401
from streamdyn.cli import search as _search  # noqa: F401
from streamdyn.cli import skim as _skim  # noqa: F401
from streamdyn.cli import text as _text  # noqa: F401
from streamdyn.cli import watch as _watch  # noqa: F401
from streamdyn.cli.app import app, main

__all__ = ["app", "main"]
from streamdyn.cli import train_video as _train_video  # noqa: F401
