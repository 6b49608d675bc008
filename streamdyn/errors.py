"""Every error streamdyn raises on purpose; catch `StreamdynError` for all of them.

```
StreamdynError
  SourceError         cannot open, read or seek a source        also OSError
    CorruptMedia      a packet or frame that cannot be decoded
  PlanError           a plan the stream cannot carry out        also ValueError
  RecognizerError     a recognizer failed or answered nonsense
  ModelError          a model folder is missing, damaged or does not fit
  StoreError          the index cannot be read or written
    SchemaTooNew      the index was written by a newer streamdyn
  ConfigError         a wrong option, key or value              also ValueError
    UnknownName       no part, key or option of that name       also LookupError
  MissingExtra        an optional package is not installed      also ImportError
```

A message has four parts: what failed, on what, why, what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class StreamdynError(Exception):
    """Base of all; its text may be shown to a user as it is."""


class SourceError(StreamdynError, OSError):
    """A source cannot be opened, read or positioned."""


class CorruptMedia(SourceError):
    """A packet or frame could not be decoded."""


class PlanError(StreamdynError, ValueError):
    """A policy answered with a plan that cannot be carried out."""


class RecognizerError(StreamdynError):
    """A recognizer failed, or its answer does not fit the selection."""


class ModelError(StreamdynError):
    """The files of a model are missing, damaged, or do not fit one another."""


class StoreError(StreamdynError):
    """The index cannot be opened, read or written."""


class SchemaTooNew(StoreError):
    """The index was written by a newer streamdyn."""


class ConfigError(StreamdynError, ValueError):
    """An option, key or value is wrong."""


class UnknownName(ConfigError, LookupError):
    """A name that nothing answers to; lists what would have worked."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        name, options = str(name), sorted(known)
        close = get_close_matches(name, options, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        super().__init__(f"no {kind} is called {name!r}{hint}; known: {', '.join(options)}")
        self.kind, self.name, self.known = kind, name, options

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str]]]:
        return type(self), (self.kind, self.name, self.known)


class MissingExtra(StreamdynError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed; "
            f"run: pip install 'streamdyn[{extra}]'"
        )
        self.package, self.purpose, self.extra = package, purpose, extra

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.package, self.purpose, self.extra)
