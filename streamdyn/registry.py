"""Names for parts: built-ins by walking a package, strangers by entry point, through one door.

```python
from streamdyn.registry import policy

@policy("stride")
class Stride: ...
```
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar

from streamdyn.errors import ConfigError, UnknownName

Part = TypeVar("Part", bound=Callable[..., Any])
PartKind = Literal["policy", "source", "recognizer", "sink", "reader"]

_PACKAGES: dict[PartKind, str] = {
    "policy": "streamdyn.agents",
    "source": "streamdyn.sources",
    "recognizer": "streamdyn.recognizers",
    "sink": "streamdyn.index",
    "reader": "streamdyn.agents.readers",
}
_parts: dict[PartKind, dict[str, Callable[..., Any]]] = {kind: {} for kind in _PACKAGES}
_loaded: set[PartKind] = set()


def _register(kind: PartKind, name: str) -> Callable[[Part], Part]:
    def add(part: Part) -> Part:
        known = _parts[kind].get(name)
        if known is not None and _home(known) != _home(part):
            raise ConfigError(
                f"two parts claim the {kind} name {name!r}: {known.__module__} and "
                f"{part.__module__}; rename one"
            )
        _parts[kind][name] = part
        return part

    return add


def _home(part: Callable[..., Any]) -> tuple[str, str]:
    return part.__module__, part.__qualname__


def policy(name: str) -> Callable[[Part], Part]:
    """Register a policy class under `name`."""
    return _register("policy", name)


def source(name: str) -> Callable[[Part], Part]:
    """Register a source class under `name`."""
    return _register("source", name)


def recognizer(name: str) -> Callable[[Part], Part]:
    """Register a recognizer class under `name`."""
    return _register("recognizer", name)


def sink(name: str) -> Callable[[Part], Part]:
    """Register a sink class under `name`."""
    return _register("sink", name)


def reader(name: str) -> Callable[[Part], Part]:
    """Register a reader of token streams under `name`."""
    return _register("reader", name)


def _load(kind: PartKind) -> None:
    if kind in _loaded:
        return
    package = importlib.import_module(_PACKAGES[kind])
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    for point in entry_points(group=f"streamdyn.{_plural(kind)}"):
        point.load()
    _loaded.add(kind)


def _plural(kind: PartKind) -> str:
    return "policies" if kind == "policy" else f"{kind}s"


def parts(kind: PartKind) -> Mapping[str, Callable[..., Any]]:
    """Name → constructor of every known part of a kind."""
    _load(kind)
    return dict(sorted(_parts[kind].items()))


def build(kind: PartKind, name: str, /, **options: Any) -> Any:
    """Construct a part by name; the constructor is the schema of its options.

    Raises:
        UnknownName: No part of that name, or no option of that name.
        ConfigError: The constructor refused a value.
    """
    known = parts(kind)
    if name not in known:
        raise UnknownName(kind, name, known)
    constructor = known[name]
    accepted = inspect.signature(constructor).parameters
    for key in options:
        if key not in accepted:
            raise UnknownName(f"option of {kind} {name}", key, accepted)
    try:
        return constructor(**options)
    except (TypeError, ValueError) as exc:
        if isinstance(exc, ConfigError):
            raise
        raise ConfigError(f"cannot build {kind} {name!r}: {exc}") from exc
