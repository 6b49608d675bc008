"""Commands that have commands: `streamdyn bench text`, `streamdyn train text`."""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperGroup


class BenchGroup(TyperGroup):
    """`bench PATH...` is `bench video PATH...`."""

    default: ClassVar[str] = "video"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What does not name a command is for the default one."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)
