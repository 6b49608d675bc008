"""Skimming a file: how its bytes become text, and a reading becomes a record or a page.

```
streamdyn skim book.txt --rate 0.1 --query "Who killed the tiger?" --html skim.html
```
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import Any

from streamdyn.errors import ConfigError, SourceError
from streamdyn.text.reading import Reading

STDIN = "-"
_PAGE = """<!doctype html>
<html lang="und">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; max-width: 44rem; padding: 2rem 1.25rem 4rem;
  font: 1.05rem/1.6 Georgia, "Times New Roman", serif; overflow-wrap: anywhere;
  background: light-dark(#fff, #16181c); color: light-dark(#1a1c20, #e8e8e6); }}
header, footer {{ font: .95rem/1.5 system-ui, sans-serif; }}
header {{ border-bottom: 1px solid light-dark(#d5d7dc, #3a3e46); padding-bottom: 1rem; }}
h1 {{ font-size: 1.35rem; margin: 0 0 .75rem; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }}
dt {{ color: light-dark(#5b606b, #a2a7b2); }}
dd {{ margin: 0; }}
label {{ display: inline-block; margin-top: .75rem; cursor: pointer; }}
mark {{ background: light-dark(#fff0ad, #5a4a10); color: inherit; padding: .05em 0; }}
:root:has(#only:checked) main span {{ display: none; }}
:root:has(#only:checked) main mark {{ display: block; background: none; margin-bottom: .6em;
  white-space: normal; }}
:root:has(#only:checked) main.token mark {{ display: inline; }}
main.token mark::after {{ content: " "; font-size: 0; }}
:root:has(#only:checked) main.token mark::after {{ font-size: inherit; }}
</style>
</head>
<body>
<header>
<h1 dir="auto">{name}</h1>
<dl>{figures}</dl>
<label><input type="checkbox" id="only"> Only what was kept</label>
</header>
<main dir="auto" class="{unit}">{body}</main>
</body>
</html>
"""


def read_text(source: str, encoding: str = "utf-8") -> str:
    """All of a file, or of standard input where `source` is `-`; without a byte order mark.

    Line ends stay as they are, so that offsets count the characters of the file.

    Raises:
        SourceError: It cannot be read, or its bytes are not of this encoding.
        ConfigError: No encoding is called so.
    """
    name = "standard input" if source == STDIN else source
    if source == STDIN and sys.stdin is None:
        raise SourceError("cannot read standard input: it is closed; name a file")
    try:
        raw = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
    except OSError as exc:
        raise SourceError(f"cannot read {name}: {exc.strerror}") from exc
    try:
        text = raw.decode(encoding)
    except LookupError as exc:
        raise ConfigError(f"no text encoding is called {encoding!r}; try utf-8 or latin-1") from exc
    except UnicodeDecodeError as exc:
        found = " ".join(f"{byte:02x}" for byte in raw[exc.start : exc.end])
        raise SourceError(
            f"cannot read {name} as {encoding}: byte {exc.start} ({found}): {exc.reason}; name its "
            "encoding with --encoding, such as latin-1"
        ) from exc
    except UnicodeError as exc:
        raise SourceError(f"cannot read {name} as {encoding}: {exc}") from exc
    return text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")


def as_record(reading: Reading, source: str, **asked: Any) -> dict[str, Any]:
    """A reading as what JSON can hold; offsets count characters.

    Args:
        reading: From `skim`.
        source: Name of what was read.
        **asked: What it was asked for, put between.
    """
    return {
        "file": source,
        **asked,
        "tokens_total": reading.tokens_total,
        "tokens_read": reading.tokens_read,
        "read_rate": reading.read_rate,
        "seconds": dict(reading.seconds),
        "flops": reading.flops,
        "text": reading.text,
        "kept": [
            {"start": start, "stop": stop, "text": reading.source[start:stop]}
            for start, stop in reading.kept
        ],
    }


def write_page(reading: Reading, path: Path, source: str, *, query: str | None, unit: str) -> None:
    """Write a page that needs nothing else: figures, and the text with the kept parts marked.

    Raises:
        ConfigError: It would take the place of the text.
        SourceError: It cannot be written.
    """
    if source != STDIN and path.exists() and path.samefile(source):
        raise ConfigError(f"--html {path} is the text itself; give the page another name")
    share = f"{100 * reading.read_rate:.1f} %"
    figures = {
        "Kept": f"{reading.tokens_read:,} of {reading.tokens_total:,} tokens ({share})",
        "Passages": f"{len(reading.kept):,}",
        "Unit": unit,
        "Query": query or "none: what the text is about",
        "Time": f"{sum(reading.seconds.values()):.2f} s",
    }
    rows = "".join(
        f'<dt>{name}</dt><dd dir="auto">{_shown(text)}</dd>' for name, text in figures.items()
    )
    body = reading.highlight("html")
    page = _PAGE.format(name=_shown(source), figures=rows, unit=unit, body=body)
    try:
        path.write_text(page, encoding="utf-8", newline="")
    except OSError as exc:
        raise SourceError(f"cannot write {path}: {exc.strerror}") from exc


def _shown(text: str) -> str:
    return escape(text.encode("utf-8", "replace").decode())
