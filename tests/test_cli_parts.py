"""The program itself, its lists of parts, `show-config` and `doctor`."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tomllib

import pytest
from command import one_error, streamdyn, streamdyn_process

from streamdyn import __version__
from streamdyn.cli import app
from streamdyn.cli.output import percent, printable
from streamdyn.cli.parts import describe
from streamdyn.cli.progress import ProgressReport
from streamdyn.config import load_config
from streamdyn.pipelines import doctor
from streamdyn.pipelines.video_index import FileProgress
from streamdyn.receipt import Receipt
from streamdyn.registry import parts


def test_the_version_is_printed():
    result = streamdyn("--version")
    assert (result.exit_code, result.stdout) == (0, f"streamdyn {__version__}\n")


def test_the_help_lists_every_command_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom streamdyn.cli import app\n"
        "try:\n    app(['--help'])\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "av",
        "decord",
        "matplotlib",
        "onnxruntime",
        "pydantic",
        "ray",
        "torch",
        "transformers",
    }
    assert not heavy & set(child.stderr.split())
    for command in ("index", "search", "report", "replay", "export", "demo", "doctor", "policies"):
        assert f"\n│ {command} " in child.stdout


@pytest.mark.parametrize("arguments", [["nix"], ["index"], ["list"], ["index", "a", "--into"]])
def test_wrong_usage_exits_with_2(arguments):
    result = streamdyn_process(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback_before_the_sentence(tmp_path):
    plain = streamdyn("list", "--in", tmp_path / "x.db")
    debug = streamdyn("--debug", "list", "--in", tmp_path / "x.db")
    assert (plain.exit_code, debug.exit_code) == (1, 1)
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert debug.stderr.endswith(plain.stderr)


def test_warnings_go_to_stderr_once(capsys):
    for _ in range(2):
        streamdyn("policies", "--json")
    logging.getLogger("streamdyn.x").warning("a thing")
    assert capsys.readouterr().err == "warning: a thing\n"


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("policies", "policy"),
        ("recognizers", "recognizer"),
        ("sources", "source"),
        ("sinks", "sink"),
    ],
)
def test_parts_are_listed_with_what_they_do_and_their_options(command, kind):
    described = [json.loads(line) for line in streamdyn(command, "--json").stdout.splitlines()]
    assert [part["name"] for part in described] == list(parts(kind))
    assert all(part["does"].endswith(".") or ":" in part["does"] for part in described)
    table = streamdyn(command).stdout
    assert all(part["name"] in table for part in described)


def test_every_option_of_every_part_says_what_it_means():
    silent = [
        f"{kind} {name}: {option}"
        for kind in ("policy", "recognizer", "source", "sink")
        for name, part in parts(kind).items()
        for option, said in describe(name, part)["options"].items()
        if not said["help"]
    ]
    assert not silent


def test_a_policy_is_described_from_its_constructor():
    bisect = describe("bisect", parts("policy")["bisect"])
    assert bisect["does"].startswith("Split intervals while the recognizer's own outcomes")
    option = bisect["options"]["max_doubt"]
    assert option["default"] == parts("policy")["bisect"]().max_doubt
    assert "smaller looks closer" in option["help"]
    agreement = describe("agreement", parts("policy")["agreement"])
    assert agreement["options"]["options"]["default"] == {}


def test_the_configuration_is_toml_that_means_the_same(tmp_path):
    arguments = (
        "--policy", "change:threshold=0.05", "--target-agreement", "0.9", "--budget-share", "0.2",
        "--recognizer", "lite0:resolution=224", "--audit", "0.01", "--propagation", "forward",
        "--seed", "3",
    )  # fmt: skip
    toml = streamdyn("show-config", *arguments).stdout
    (tmp_path / "run.toml").write_text(toml)
    document = json.loads(streamdyn("show-config", *arguments, "--json").stdout)
    assert load_config(tmp_path / "run.toml").hash == document["hash"]
    assert document["config"]["policy"] == {
        "name": "agreement", "inner": "change", "options": {"threshold": 0.05}, "target": 0.9,
    }  # fmt: skip
    assert document["config"]["propagation"] == "forward"
    assert document["defaults"]["recognizer"]["top_k"] == 5
    assert "# top_k = 5" in toml
    assert tomllib.loads(toml)["budget"] == {"share": 0.2}


def test_options_win_over_the_file(tmp_path):
    (tmp_path / "run.toml").write_text('audit = 0.5\n[policy]\nname = "bisect"\nmin_gap = 2\n')
    arguments = ("show-config", "--config", tmp_path / "run.toml", "--json")
    held = json.loads(streamdyn(*arguments, "--policy", "bisect:max_doubt=9").stdout)["config"]
    assert held["policy"] == {"name": "bisect", "min_gap": 2, "max_doubt": 9}
    assert held["audit"] == 0.5
    other = json.loads(streamdyn(*arguments, "--policy", "keyframe", "--audit", "0").stdout)[
        "config"
    ]
    assert (other["policy"], other["audit"]) == ({"name": "keyframe"}, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[polizy]\nname = 'bisect'\n", "polizy: Extra inputs are not permitted"),
        ("audit = 'much'\n", "audit: Input should be a valid number"),
        ("audit = \n", "cannot read the configuration"),
        ("[policy]\nname = 'bisect'\nmax_dout = 3\n", "did you mean 'max_doubt'?"),
    ],
)
def test_a_wrong_configuration_is_one_sentence_and_code_2(tmp_path, text, words):
    (tmp_path / "run.toml").write_text(text)
    result = streamdyn("show-config", "--config", tmp_path / "run.toml")
    assert result.exit_code == 2
    assert words in one_error(result)


def test_doctor_finds_what_these_tests_run_on():
    result = streamdyn_process("doctor", "--json")
    document = json.loads(result.stdout)
    checks = {check["name"]: check for check in document["checks"]}
    assert (result.returncode, document["ok"]) == (0, True)
    for name in ("av", "torch", "onnxruntime", "sqlite", "decode h264", "cache folder"):
        assert checks[name]["status"] == "ok", checks[name]
    assert checks["streamdyn"]["detail"].startswith(__version__)
    assert all(check["remedy"] for check in document["checks"] if check["status"] == "missing")


def test_doctor_fails_only_on_what_the_core_needs(monkeypatch):
    lacking = doctor.Check("rapidocr", "missing", "not installed", "install it")
    broken = doctor.Check("sqlite", "missing", "no FTS5", "install it", is_needed=True)
    monkeypatch.setattr(doctor, "examine", lambda: iter([lacking]))
    assert streamdyn("doctor").exit_code == 0
    monkeypatch.setattr(doctor, "examine", lambda: iter([lacking, broken]))
    result = streamdyn("doctor")
    assert result.exit_code == 1
    assert "-> install it" in result.stdout
    assert result.stderr == "broken, and needed: sqlite\n"


def test_what_a_package_raises_is_a_finding(monkeypatch):
    def _torch():
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "_torch", _torch)
    (found,) = [check for check in doctor.examine() if check.name == "torch"]
    assert found.is_broken
    assert found.detail == "OSError: libcudart.so.13: cannot open shared object file"


def test_what_could_drive_a_terminal_is_not_printed():
    assert printable("a\x1b[31mb\x07\u202ec\udcff\n") == "a\ufffd[31mb\ufffd\ufffdc?\n"


def test_percentages_have_one_decimal():
    assert percent(0.0724) == "7.2 %"


def test_progress_without_a_terminal_is_a_line_every_ten_seconds(capsys):
    now = [0.0]
    progress = ProgressReport(now=lambda: now[0])
    progress.watch(lambda: (1, 4))
    with progress:
        for second in range(0, 25, 5):
            now[0] = float(second)
            receipt = Receipt(num_items=100 * second, num_processed=7 * second)
            progress.update(FileProgress("b.mp4", 100 * second, 5000, receipt))
    assert capsys.readouterr().err.splitlines() == [
        "1 of 4 files, 1,000 items, 100/s, 7.0 % recognized, about 0:00:30 left",
        "1 of 4 files, 2,000 items, 100/s, 7.0 % recognized, about 0:01:00 left",
    ]


def test_progress_for_a_program_is_an_object_a_second_and_one_at_the_end(capsys):
    now = [0.0]
    progress = ProgressReport(as_json=True, now=lambda: now[0])
    progress.watch(lambda: (1, 4))
    with progress:
        for tenth in range(25):
            now[0] = tenth / 10
            receipt = Receipt(num_items=100 * tenth, num_processed=7 * tenth)
            progress.update(FileProgress("b.mp4", 100 * tenth, 5000, receipt))
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["elapsed_seconds"] for one in told] == [1.0, 2.0, 2.4]
    assert told[0] == {
        "files_finished": 1, "files": 4, "files_in_work": 0, "items": 1000,
        "items_this_call": 1000, "recognized_this_call": 70, "elapsed_seconds": 1.0,
        "left_seconds": 3.0,
    }  # fmt: skip


def test_the_application_can_be_extended_by_a_module():
    assert "bench" in {group.name for group in app.registered_groups}
