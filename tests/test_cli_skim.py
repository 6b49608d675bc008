"""`streamdyn skim` on the command line."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from command import PROGRAM, one_error, streamdyn
from typer.testing import CliRunner

from streamdyn.cli import app
from streamdyn.text.words import split

TEXT = (
    "The harbour was quiet.\r\nMary hid the compass behind the <b>lighthouse</b> door. "
    "Rain fell all night.\r\n\r\nA baker closed his shop at six. The price was 3.14 euros."
)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "story <1>.txt"
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    return file


def skim(*arguments):
    return streamdyn("skim", *arguments, "--vectors", "hashed")


def test_the_kept_text_is_printed_and_the_share_beside_it(path):
    result = skim(path, "--query", "Where is the compass?", "--target-tokens", "16")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "Mary hid the compass behind the <b>lighthouse</b> door.\n"
    assert result.stderr.strip() == f"kept 16 of {len(split(TEXT)[0])} tokens (38.1 %)"


def test_json_holds_offsets_into_the_file(path):
    result = skim(path, "--rate", "0.5", "--json")
    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert found["tokens_read"] == round(0.5 * found["tokens_total"])
    assert all(TEXT[part["start"] : part["stop"]] == part["text"] for part in found["kept"])
    assert (found["unit"], found["query"], found["file"]) == ("sentence", None, str(path))


def test_standard_input_is_read_with_its_encoding():
    done = CliRunner().invoke(
        app,
        ["skim", "-", "--encoding", "latin-1", "--rate", "1", "--vectors", "hashed"],
        input="café".encode("latin-1"),
    )
    assert (done.exit_code, done.stdout) == (0, "café\n")


def test_bytes_of_another_encoding_are_named_with_their_place(path):
    path.write_bytes(b"\xef\xbb\xbfcaf\xe9 au lait")
    result = skim(path)
    assert result.exit_code == 1
    message = one_error(result)
    assert "as utf-8: byte 6 (e9)" in message
    assert "--encoding" in message


def test_the_page_marks_what_was_kept_and_quotes_the_rest(path, tmp_path):
    page = tmp_path / "page.html"
    result = skim(path, "--query", "<compass> door?", "--target-tokens", "16", "--html", page)
    assert result.exit_code == 0, result.stderr
    html = page.read_text("utf-8")
    assert (
        "<mark>Mary hid the compass behind the &lt;b&gt;lighthouse&lt;/b&gt; door.</mark>" in html
    )
    assert "&lt;compass&gt; door?" in html
    assert "story &lt;1&gt;.txt" in html
    assert "16 of 42 tokens (38.1 %)" in html
    assert "<compass>" not in html
    assert "http" not in html
    assert f"page: {page}" in result.stderr


def test_highlight_shows_the_whole_text_in_place(path):
    result = CliRunner().invoke(
        app,
        ["skim", str(path), "--highlight", "--unit", "token", "--vectors", "hashed"],
        color=True,
    )
    assert result.exit_code == 0, result.stderr
    assert "\x1b[1m" in result.stdout
    assert "\x1b[2m" in result.stdout


def test_keep_may_be_given_again(path):
    result = skim(path, "--target-tokens", "1", "--keep", "baker", "--keep", r"\d+\.\d+")
    assert result.stdout == "baker 3.14\n"


def test_what_a_terminal_would_obey_is_not_printed(path):
    path.write_bytes(b"Red \x1b[31m alert. \x00")
    assert "\x1b" not in skim(path, "--rate", "1").stdout


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--rate", "0"), 2, "in (0, 1], got 0.0"),
        (("--rate", "0.2", "--target-tokens", "5"), 2, "rate and target_tokens are given"),
        (("--keep", "("), 2, "no regular expression"),
        (("--keep", "a{99999999999}"), 2, "no regular expression"),
        (("--encoding", "undefined"), 1, "undefined"),
        (("--encoding", "klingon"), 2, "no text encoding is called 'klingon'"),
        (("--encoding", "hex"), 2, "no text encoding is called 'hex'"),
        (("--json", "--highlight"), 2, "give one of them"),
        (("--html", "/no/such/folder/x.html"), 1, "cannot write /no/such/folder/x.html"),
    ],
)
def test_a_wrong_call_is_one_sentence(path, options, code, says):
    result = skim(path, *options)
    assert result.exit_code == code
    assert says in one_error(result)


def test_the_page_does_not_take_the_place_of_the_text(path):
    before = path.read_bytes()
    assert "is the text itself" in one_error(skim(path, "--html", path))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("shell", "says"),
    [
        ("- <&-", "cannot read standard input: it is closed"),
        ("{path} >/dev/full", "skim: No space left on device"),
    ],
)
def test_streams_that_do_not_work_are_one_sentence(path, shell, says):
    command = shlex.join([*PROGRAM, "skim", "--vectors", "hashed"])
    line = f"{command} {shell.format(path=shlex.quote(str(path)))}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert says in one_error(done)


def test_a_file_that_is_not_there(tmp_path):
    result = skim(tmp_path / "none.txt")
    assert result.exit_code == 1
    assert "No such file" in one_error(result)
    assert "Is a directory" in one_error(skim(tmp_path))


def test_neither_torch_nor_numba_is_loaded(path):
    check = (
        "import sys; assert not {'torch', 'numba', 'transformers', 'wordllama'} & set(sys.modules)"
    )
    code = f"from streamdyn.cli import app\ntry:\n app({['skim', str(path)]!r})\nfinally:\n {check}"
    done = subprocess.run([PROGRAM[0], "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
