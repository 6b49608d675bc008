"""Small grey pictures."""

from streamdyn.items import FrameSpec

LUMA_SPEC = FrameSpec(32, 24, "gray")
"""What a glance decodes to."""
