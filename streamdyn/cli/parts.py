"""`streamdyn policies`, `recognizers`, `sources`, `sinks` and `show-config`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable
from typing import Any

from streamdyn.cli import options
from streamdyn.cli.app import app
from streamdyn.cli.options import run_config
from streamdyn.cli.output import print_json, print_json_lines, print_lines, show, table


@app.command()
def policies(as_json: options.Json = False) -> None:
    """List the policies: what each does, and its options with their defaults."""
    _print_parts("policy", as_json=as_json)


@app.command()
def recognizers(as_json: options.Json = False) -> None:
    """List the recognizers: what each does, and its options with their defaults."""
    _print_parts("recognizer", as_json=as_json)


@app.command()
def sources(as_json: options.Json = False) -> None:
    """List the sources: what each reads, and its options with their defaults."""
    _print_parts("source", as_json=as_json)


@app.command()
def sinks(as_json: options.Json = False) -> None:
    """List the sinks: where each writes, and its options with their defaults."""
    _print_parts("sink", as_json=as_json)


@app.command("show-config")
def show_config(
    policy: options.Policy = None,
    recognizer: options.Recognizer = None,
    source: options.Source = None,
    device: options.Device = None,
    config: options.Config = None,
    target_agreement: options.TargetAgreement = None,
    audit: options.Audit = None,
    budget_share: options.BudgetShare = None,
    budget_items: options.BudgetItems = None,
    budget_ms: options.BudgetMs = None,
    propagation: options.PropagationOption = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
) -> None:
    """Print the configuration that these options add up to, as TOML for --config.

    Options left at their defaults are comments. With --json, one document: `config`, `defaults`
    and `hash`, which changes whenever an outcome could.
    """
    given = options.overrides(
        policy=policy,
        recognizer=recognizer,
        source=source,
        device=device,
        audit=audit,
        budget_share=budget_share,
        budget_items=budget_items,
        budget_ms=budget_ms,
        propagation=propagation,
        seed=seed,
    )
    resolved = run_config(config, given, target_agreement)
    resolved.build_policy(), resolved.build_recognizer(), resolved.build_budget()
    resolved.build_audit(), resolved.build_source("video.mp4", "video.mp4")
    document = resolved.model_dump()
    defaults = {
        kind: _unset_options(kind, document[kind]) for kind in ("policy", "recognizer", "source")
    }
    if as_json:
        print_json({"config": document, "defaults": defaults, "hash": resolved.hash})
    else:
        print_lines(_as_toml(document, defaults, resolved.hash))


def _print_parts(kind: Any, *, as_json: bool) -> None:
    from streamdyn.registry import parts

    described = [describe(name, part) for name, part in parts(kind).items()]
    if as_json:
        print_json_lines(described)
        return
    rows = [
        (
            part["name"],
            part["does"],
            "\n".join(
                f"{name}={_value(option['default'])}" if "default" in option else name
                for name, option in part["options"].items()
            ),
        )
        for part in described
    ]
    show(table("", "name", "*what it does", "*options and their defaults", rows=rows))


def describe(name: str, part: Callable[..., Any]) -> dict[str, Any]:
    """A part's name, the first line of its docstring, and its options.

    Returns:
        `name`, `does`, and `options`: name → `help`, and `default` where it has one.
    """
    text = inspect.getdoc(part) or ""
    helps = _argument_helps(text)
    described: dict[str, Any] = {}
    for option, parameter in inspect.signature(part).parameters.items():
        described[option] = {"help": helps.get(option, "")}
        if parameter.default is not parameter.empty:
            described[option]["default"] = _default(part, option, parameter.default)
    return {
        "name": name,
        "does": text.partition("\n\n")[0].replace("\n", " "),
        "options": described,
    }


def _default(part: Callable[..., Any], option: str, default: Any) -> Any:
    """The default, made where a dataclass makes it anew for each object."""
    for field in dataclasses.fields(part) if dataclasses.is_dataclass(part) else ():
        if field.name == option and field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
    return default


def _argument_helps(docstring: str) -> dict[str, str]:
    """Option → what the `Args` section says of it."""
    _, _, section = docstring.partition("\nArgs:\n")
    section = re.split(r"\n\n?(?=\S)", section)[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n      +.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}


def _unset_options(kind: Any, part: dict[str, Any]) -> dict[str, Any]:
    """Options of a part that are left at their defaults."""
    from streamdyn.registry import parts

    described = describe(part["name"], parts(kind)[part["name"]])["options"]
    return {
        name: option["default"]
        for name, option in described.items()
        if "default" in option and name not in part
    }


def _as_toml(document: dict[str, Any], defaults: dict[str, Any], fingerprint: str) -> str:
    lines = [f"# hash {fingerprint}"]
    tables = {name: value for name, value in document.items() if isinstance(value, dict)}
    lines += [
        f"# {name}: none" if value is None else f"{name} = {_value(value)}"
        for name, value in document.items()
        if name not in tables
    ]
    for name, options_of_it in tables.items():
        lines += ["", f"[{name}]"]
        for key, value in options_of_it.items():
            lines.append(f"# {key}: no limit" if value is None else f"{key} = {_value(value)}")
        lines += [f"# {key} = {_value(value)}" for key, value in defaults.get(name, {}).items()]
    return "\n".join(lines)


def _value(value: Any) -> str:
    """As TOML writes it; what TOML has no word for as Python does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value) if isinstance(value, str) else str(value)
