"""The configuration of a run: which parts, with which options; TOML in, resolved JSON out.

```toml
audit = 0.005
[policy]
name = "bisect"
max_doubt = 20
[recognizer]
name = "lite0"
resolution = 224
[budget]
share = 0.1
```
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamdyn.audit import AuditRule
from streamdyn.budget import Budget
from streamdyn.errors import ConfigError
from streamdyn.protocols import Policy, Recognizer, Source
from streamdyn.registry import PartKind, build

_SOURCE = {"name": "video_av", "on_corrupt": "skip"}
"""In a long job a picture that cannot be decoded is counted, and the file goes on."""


class PartConfig(BaseModel):
    """A part by name; every other key is an option of its constructor."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """What goes to the constructor."""
        return dict(self.model_extra or {})

    def build(self, kind: PartKind, **more: Any) -> Any:
        """The part.

        Raises:
            ConfigError: No such part or option, or a value it refuses.
        """
        return build(kind, self.name, **{**self.options, **more})


class BudgetConfig(BaseModel):
    """Limits; see `streamdyn.budget.Budget`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    share: float | None = None
    items: int | None = None
    ms_per_media_second: float | None = None


class RunConfig(BaseModel):
    """All that the outcomes of a run depend on, besides the media."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: PartConfig = PartConfig(**_SOURCE)
    policy: PartConfig = PartConfig(name="agreement")
    recognizer: PartConfig = PartConfig(name="lite0")
    budget: BudgetConfig = BudgetConfig()
    audit: float = Field(0.004, ge=0, le=1)
    """Share of the skipped items to look at after all; see `streamdyn.audit.AuditRule`."""
    seed: int = 0
    """Draws the audits."""
    propagation: Literal["two-sided", "forward"] = "two-sided"
    split_seconds: float | None = Field(None, gt=0)
    """Longer files are cut at keyframes, so that several workers can watch one; the policy and the
    recognizer begin afresh at each cut, whoever watches it."""
    device: str = "cpu"

    @property
    def hash(self) -> str:
        """Changes with every option that an outcome may depend on."""
        # Not split is what all were before there was this option.
        left_out = {"device"} | ({"split_seconds"} if self.split_seconds is None else set())
        text = json.dumps(self.model_dump(exclude=left_out), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def build_source(self, path: str, stream: str) -> Source:
        """The source of one file or URL."""
        return self.source.build("source", path=path, stream=stream)  # type: ignore[no-any-return]

    def build_policy(self) -> Policy[Any]:
        """The policy."""
        return self.policy.build("policy")  # type: ignore[no-any-return]

    def build_recognizer(self) -> Recognizer:
        """The recognizer, not set up yet."""
        return self.recognizer.build("recognizer")  # type: ignore[no-any-return]

    def build_budget(self) -> Budget:
        """The limits."""
        return Budget(**self.budget.model_dump())

    def build_audit(self) -> AuditRule:
        """The audits."""
        return AuditRule(self.audit, self.seed)


def load_config(path: str | Path | None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """A configuration from a TOML file and overrides; nested tables are merged key by key.

    Raises:
        ConfigError: The file cannot be read, or a key or value is wrong; names it.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise ConfigError(
                f"cannot read the configuration {path}: {exc}; name a TOML file such as streamdyn "
                "show-config prints"
            ) from exc
    merged = _merge(_merge({"source": _SOURCE}, table), overrides or {})
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors()
        )
        known = ", ".join(RunConfig.model_fields)
        raise ConfigError(
            f"wrong configuration{f' in {path}' if path else ''}: {problems}; keys are: {known}"
        ) from exc


def with_target(config: RunConfig, target: float) -> RunConfig:
    """The configuration with a policy that tunes itself until it agrees that much.

    A policy that has a knob is wrapped in `agreement`; `agreement` itself gets the target.

    Raises:
        ConfigError: The policy has no knob, or the target is not in (0, 1).
    """
    held = config.policy
    table = held.model_dump()
    if held.name != "agreement":
        table = {"name": "agreement", "inner": held.name, "options": held.options}
    policy = PartConfig(**{**table, "target": target})
    policy.build("policy")
    return config.model_copy(update={"policy": policy})


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        held = merged.get(key)
        if isinstance(held, dict) and isinstance(value, dict):
            # Another part than the file names: its options are not for this one.
            other = "name" in value and value["name"] != held.get("name")
            merged[key] = value if other else _merge(held, value)
        else:
            merged[key] = value
    return merged


# A comma outside of double quotes and brackets.
_COMMA = re.compile(r',(?=(?:[^"\[\]{}]|"[^"]*"|\[[^\]]*\]|\{[^}]*\})*$)')


def parse_part(text: str) -> dict[str, Any]:
    """`name` or `name:key=value,key=value` as a table; values as TOML, bare words as strings.

    Raises:
        ConfigError: An option without `=`.
    """
    name, _, rest = text.partition(":")
    table: dict[str, Any] = {"name": name}
    for pair in filter(None, _COMMA.split(rest)):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(
                f"wrong option {pair!r} of part {text!r}: it has no '='; write NAME:key=value"
            )
        table[key.strip()] = _toml_value(value.strip())
    return table


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
