"""Whether a codec really decodes: a few pictures are encoded in memory and read back."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

NUM_PICTURES = 5
ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "mp4", {"preset": "ultrafast"}),
    "hevc": ("libx265", "mp4", {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"}),
    "vp9": ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8"}),
    "av1": ("libsvtav1", "mp4", {"preset": "12", "svtav1-params": "lp=1"}),
    "mpeg4": ("mpeg4", "mp4", {}),
}
"""Codec → encoder, container, options."""


def decode_a_few(codec: str) -> str:
    """Encode a few pictures and decode them again.

    Args:
        codec: Key of `ENCODERS`.

    Returns:
        What was found; begins with `not tried` where there is a decoder, and no encoder to make
        something to decode with.

    Raises:
        Exception: There is no decoder, or it gave something else than was encoded.
    """
    import av

    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes its settings to stderr otherwise.
    av.codec.Codec(codec, "r")
    encoder, container, options = ENCODERS[codec]
    try:
        av.codec.Codec(encoder, "w")
    except av.codec.codec.UnknownCodecError:
        return f"not tried: there is a decoder, and no encoder {encoder} to try it with"
    pictures = [np.full((64, 96, 3), 40 * i + 20, np.uint8) for i in range(NUM_PICTURES)]
    decoded, name = _decode(_encode(encoder, container, options, pictures))
    if len(decoded) != NUM_PICTURES:
        raise ValueError(f"{len(decoded)} of {NUM_PICTURES} pictures came out")
    worst = max(
        abs(float(out.mean()) - float(original.mean()))
        for out, original in zip(decoded, pictures, strict=True)
    )
    if worst > 8:
        raise ValueError(f"pictures came out {worst:.0f} levels too bright or too dark")
    return f"{NUM_PICTURES} pictures by {encoder}, read back with {name}"


def _encode(
    encoder: str, container: str, options: dict[str, str], pictures: list[Any]
) -> io.BytesIO:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream: Any = output.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for picture in pictures:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    buffer.seek(0)
    return buffer


def _decode(data: io.BytesIO) -> tuple[list[Any], str]:
    import av

    with av.open(data, "r") as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        return frames, container.streams.video[0].codec_context.name
