"""One wheel, one import name, and a light front door."""

from __future__ import annotations

import ast
import importlib
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import streamdyn
import streamdyn.index

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "streamdyn": "streamdyn",
    "agents": "streamdyn/agents",
    "pipelines": "streamdyn/pipelines",
}
"""Folder of the checkout → folder of the wheel."""
HEAVY = {"ray", "av", "decord", "transformers", "torchaudio", "torch", "onnxruntime", "typer"}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that scripts/check built, or else one built here with this environment's tools."""
    if given := os.environ.get("STREAMDYN_WHEEL"):
        return Path(given)
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    run = subprocess.run([*build, str(ROOT)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = folder.glob("*.whl")
    return path


def tree() -> set[str]:
    """The files of the three folders, as the wheel should name them."""
    return {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_files_of_the_tree_and_no_others(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"streamdyn-{streamdyn.__version__}.dist-info"
    about = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert names == tree() | {f"{info}/{name}" for name in about}


def test_the_wheel_says_that_it_is_typed(wheel: Path) -> None:
    assert "streamdyn/py.typed" in zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="session")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment that holds the wheel and borrows this environment's packages.

    A .pth file lends them; .pth files among them, such as the one that points to the checkout, are
    not read.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    lent = "\n".join(site.getsitepackages())
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "lent.pth").write_text(lent)
    return python


def run_python(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [python, "-c", code], cwd=folder, env=clean, capture_output=True, text=True, check=False
    )


def test_the_installed_wheel_builds_every_part_away_from_the_checkout(
    elsewhere: Path, tmp_path: Path
) -> None:
    code = """
import streamdyn, streamdyn.agents.stride, streamdyn.pipelines.video_index
from streamdyn.recognizers.lite0 import imagenet_labels
from streamdyn.registry import parts
print(streamdyn.__file__, streamdyn.agents.__file__, len(imagenet_labels()))
print(*(f"{kind}:{name}" for kind in ("policy", "source", "recognizer", "sink")
        for name in parts(kind)))
"""
    run = run_python(elsewhere, code, tmp_path)
    assert run.returncode == 0, run.stderr
    *places, num_labels = run.stdout.splitlines()[0].split()
    assert all(place.startswith(str(elsewhere.parent.parent)) for place in places)
    assert num_labels == "1000"
    here = run_python(Path(sys.executable), code, ROOT)
    assert run.stdout.splitlines()[1] == here.stdout.splitlines()[1]


def test_the_command_of_the_installed_wheel_starts(elsewhere: Path, tmp_path: Path) -> None:
    code = "import sys; from streamdyn.cli import main; sys.argv = ['streamdyn', '--help']; main()"
    run = run_python(elsewhere, code, tmp_path)
    assert run.returncode == 0, run.stderr
    assert "index" in run.stdout


@pytest.mark.parametrize("module", [streamdyn, streamdyn.index])
def test_all_is_sorted_and_names_what_is_public(module: ModuleType) -> None:
    assert module.__file__ is not None
    source = ast.parse(Path(module.__file__).read_text("utf-8"))
    imported = {
        alias.asname or alias.name
        for node in source.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("streamdyn")
        for alias in node.names
    }
    imported |= getattr(module, "_ON_DEMAND", {}).keys()
    assert module.__all__ == sorted(imported)
    assert all(hasattr(module, name) for name in module.__all__)


def test_importing_streamdyn_loads_nothing_heavy(tmp_path: Path) -> None:
    run = run_python(Path(sys.executable), "import sys, streamdyn; print(*sys.modules)", tmp_path)
    assert run.returncode == 0, run.stderr
    assert not HEAVY & set(run.stdout.split())


@pytest.mark.parametrize("folder", ["agents", "pipelines"])
def test_a_folder_has_one_import_name_only(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    with pytest.raises(ImportError, match=f"import this package as streamdyn.{folder}, not"):
        importlib.import_module(folder)
    assert importlib.import_module(f"streamdyn.{folder}").__file__ == str(
        ROOT / folder / "__init__.py"
    )
