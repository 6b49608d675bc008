"""The application that every command registers on; errors become one sentence and an exit code.

| code | meaning |
|---|---|
| 0 | done |
| 1 | the run, or a part of it, failed |
| 2 | wrong usage: an option, a name or a configuration |
| 130 | stopped by Ctrl-C |
"""

from __future__ import annotations

import logging
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from streamdyn.cli.output import complain, printable
from streamdyn.errors import ConfigError, StreamdynError

STOPPED = 130
COMMANDS = (
    "demo", "index", "list", "search", "watch", "top", "job", "skim", "report", "export", "replay",
    "bench", "train", "features", "policies", "recognizers", "sources", "sinks", "show-config",
    "doctor",
)  # fmt: skip
"""In the order of the help."""


class Commands(TyperGroup):
    """Runs a command and explains what went wrong."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of `COMMANDS`; others after them."""
        known = {name: place for place, name in enumerate(COMMANDS)}
        return sorted(super().list_commands(ctx), key=lambda name: (known.get(name, 99), name))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors of ours leave as exit codes."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Whoever reads the output has left: typer ends the command.
            raise
        except (StreamdynError, OSError) as exc:
            if ctx.params.get("debug"):
                typer.echo(traceback.format_exc(), err=True)
            if isinstance(exc, StreamdynError):
                complain(str(exc))
            else:
                complain(f"{exc.filename or ctx.invoked_subcommand}: {exc.strerror or exc}")
            raise typer.Exit(2 if isinstance(exc, ConfigError) else 1) from exc
        except KeyboardInterrupt as exc:
            complain("stopped by Ctrl-C")
            raise typer.Exit(STOPPED) from exc


app = typer.Typer(
    cls=Commands,
    name="streamdyn",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="Watch video through an agent: it chooses the frames, a recognizer looks at those only, "
    "and the run shows what skipping saved and what it cost.",
    epilog="Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 the run failed, "
    "2 wrong usage, 130 stopped by Ctrl-C.",
)


class _Log(logging.Handler):
    """Writes records to stderr, wherever that is at the time."""

    def __init__(self, *, with_traceback: bool) -> None:
        super().__init__(logging.INFO if with_traceback else logging.WARNING)
        self._with_traceback = with_traceback

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        typer.echo(printable(text), err=True)
        if self._with_traceback and record.exc_info:
            typer.echo(logging.Formatter().formatException(record.exc_info), err=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from streamdyn import __version__

        typer.echo(f"streamdyn {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and what is logged.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    ours = logging.getLogger("streamdyn")
    for handler in [h for h in ours.handlers if isinstance(h, _Log)]:
        ours.removeHandler(handler)
    ours.addHandler(_Log(with_traceback=debug))
    ours.setLevel(logging.INFO if debug else logging.WARNING)


def main() -> None:
    """The console script `streamdyn`."""
    app()
