"""onnxruntime from 1.29 on reports to its maker by default; streamdyn turns that off."""

import os


def turn_off() -> None:
    """Call before onnxruntime is imported; a user's own setting of the variable stands."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
