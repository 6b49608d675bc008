"""Characters that drive a terminal instead of being shown by it."""

from __future__ import annotations

from typing import Final

CONTROLS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""Inside of a character class of `re`: C0 and C1 but tab and line feed, separators, directions."""
