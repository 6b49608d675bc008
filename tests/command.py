"""Running the command line, in this process or in one of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

from typer.testing import CliRunner

from streamdyn.cli import app

PROGRAM = (sys.executable, "-c", "from streamdyn.cli import main; main()")


def streamdyn(*arguments: object) -> Any:
    """Run a command here; answers its `exit_code`, `stdout` and `stderr`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def streamdyn_process(*arguments: object, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False, **how
    )


def one_error(result: Any) -> str:
    """The single error sentence of a failed command; it has nothing else on stderr."""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: "), lines[0]
    assert "Traceback" not in result.stderr
    return lines[0].removeprefix("error: ")


def free_port() -> int:
    """Of this machine, that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
