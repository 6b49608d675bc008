"""The command line: one module a group of commands; importing one registers its commands."""

from streamdyn.cli.app import app, main

__all__ = ["app", "main"]
