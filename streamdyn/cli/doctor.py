"""`streamdyn doctor`: what this machine has, and what to do about what it lacks."""

from __future__ import annotations

import typer

from streamdyn.cli.app import app
from streamdyn.cli.options import Json
from streamdyn.cli.output import print_json, remark, show, table


@app.command()
def doctor(as_json: Json = False) -> None:
    """Examine this machine: codecs, torch, CUDA, SQLite, models, shared memory, cache.

    Exits with 1 only if something is broken that the core needs.
    """
    from streamdyn.pipelines.doctor import examine

    checks = list(examine())
    broken = [check.name for check in checks if check.is_broken]
    if as_json:
        print_json({"ok": not broken, "checks": checks})
    else:
        rows = [
            (
                check.name,
                check.status,
                check.detail + (f"\n-> {check.remedy}" if check.remedy else ""),
            )
            for check in checks
        ]
        show(table("", "what", "status", "*found", rows=rows))
    if broken:
        remark(f"broken, and needed: {', '.join(broken)}")
        raise typer.Exit(1)
