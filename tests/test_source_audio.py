"""Sound as items: the same windows, bit for bit, whatever was chosen; and rows of log mel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, CorruptMedia, SourceError
from streamdyn.items import Array, Block, FrameSpec
from streamdyn.previews.audio import AudioPreview, log_mel
from streamdyn.protocols import Position
from streamdyn.registry import build
from streamdyn.sources.audio import Audio, AudioCursor
from streamdyn.sources.samples import SampleReader
from streamdyn.testing.sources import check_source

SPEC = FrameSpec(1, 1)
SECONDS = 8
RATE = 44_100
FORMATS = {
    "pcm.wav": ("pcm_s16le", RATE),
    "pcm24.wav": ("pcm_s24le", RATE),
    "pcm8.wav": ("pcm_u8", RATE),
    "flac.flac": ("flac", RATE),
    "flac.mkv": ("flac", RATE),
    "mp3.mp3": ("libmp3lame", RATE),
    "mp3.mkv": ("libmp3lame", RATE),
    "aac.m4a": ("aac", RATE),
    "aac.ts": ("aac", RATE),
    "opus.ogg": ("libopus", 48_000),
}
SEEKS = ["pcm.wav", "pcm24.wav", "pcm8.wav", "flac.flac", "mp3.mp3"]


def wave(rate: int, seconds: float = SECONDS) -> Array:
    """A sweep that comes and goes, under noise that comes and goes: `(samples,)` float32."""
    t = np.arange(int(rate * seconds)) / rate
    noise = np.random.default_rng(0).standard_normal(t.size) * 0.05 * (np.sin(t) > 0)
    sweep = 0.3 * np.sin(2 * np.pi * (200 + 60 * t) * t) * (np.sin(2 * t) > 0)
    return (sweep + noise).astype(np.float32)


def encode(path: Path, codec: str, rate: int, samples: Array) -> Path:
    """Write mono sound; pts start at 0."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        for start in range(0, samples.size, 1024):
            part = np.ascontiguousarray(samples[None, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("sound")

    def make(name: str) -> Path:
        path = folder / name
        codec, rate = FORMATS[name]
        return path if path.exists() else encode(path, codec, rate, wave(rate))

    return make


def drained(cursor: AudioCursor) -> Block:
    return Block.join(list(iter(cursor.next_block, None)))


@pytest.mark.parametrize("name", FORMATS)
def test_sound_keeps_the_contract_of_a_source(name: str, sound: Callable[[str], Path]) -> None:
    check_source(Audio(sound(name)).open, spec=SPEC)


@pytest.mark.parametrize("name", FORMATS)
def test_chosen_windows_equal_a_full_decode(name: str, sound: Callable[[str], Path]) -> None:
    with closing(Audio(sound(name)).open()) as cursor:
        n = len(drained(cursor))
        full, errors = cursor.materialize(range(n), SPEC)
        assert not errors
    with closing(Audio(sound(name)).open()) as cursor:
        drained(cursor)
        cursor.take_receipt()
        for chosen in ([7, 13, n - 1], [10], [4, 15]):  # The last two go back.
            for item in cursor.materialize(chosen, SPEC)[0]:
                assert np.array_equal(item.data, full[item.ordinal].data), item
        assert (cursor.take_receipt().num_seeks > 0) == (name in SEEKS)


@pytest.mark.parametrize("name", SEEKS)
def test_a_skipped_stretch_is_not_decoded(name: str, sound: Callable[[str], Path]) -> None:
    with closing(Audio(sound(name)).open()) as cursor:
        drained(cursor)
        cursor.take_receipt()
        cursor.materialize([12], SPEC)
        few = cursor.take_receipt().num_decoded
    with closing(Audio(sound(name)).open()) as cursor:
        cursor.materialize(range(len(drained(cursor))), SPEC)
        assert few < cursor.take_receipt().num_decoded / 3


def test_windows_hold_the_samples_of_their_time(tmp_path: Path) -> None:
    samples = wave(16_000, 2.25)
    path = encode(tmp_path / "a.wav", "pcm_s16le", 16_000, samples)
    with closing(Audio(path).open()) as cursor:
        block = drained(cursor)
        items, _ = cursor.materialize(range(len(block)), SPEC)
    joined = np.concatenate([item.data[0] for item in items])
    assert block.pts.tolist() == [0, 8000, 16000, 24000, 32000]
    assert block.time_base == Fraction(1, 16_000)
    assert np.abs(joined[: samples.size] - samples).max() <= 1 / 32768
    assert not joined[samples.size :].any()


def test_resampling_keeps_a_tone(tmp_path: Path) -> None:
    t = np.arange(RATE * 2) / RATE
    path = encode(tmp_path / "a.wav", "pcm_f32le", RATE, np.sin(2 * np.pi * 440 * t, dtype="f4"))
    with closing(Audio(path).open()) as cursor:
        drained(cursor)
        items, _ = cursor.materialize([1], SPEC)
    expected = np.sin(2 * np.pi * 440 * (0.5 + np.arange(8000) / 16_000))
    assert items[0].data.shape == (1, 8000)
    assert items[0].data.dtype == np.float32
    assert np.abs(items[0].data[0] - expected).max() < 0.01


def test_several_channels_are_their_mean(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16_000, layout="stereo")
        both = np.stack([np.full(16_000, 0.5), np.full(16_000, -0.25)]).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(both, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with closing(Audio(path).open()) as cursor:
        drained(cursor)
        items, _ = cursor.materialize([0], SPEC)
    assert items[0].data == pytest.approx(0.125)


def test_pts_are_exact_where_the_stream_starts_between_two_ticks(
    sound: Callable[[str], Path],
) -> None:
    with closing(SampleReader(str(sound("mp3.mp3")))) as reader:
        start = reader.start
    assert start * 16_000 % 1 != 0
    with closing(Audio(sound("mp3.mp3")).open()) as cursor:
        block = drained(cursor)
    assert block.pts_at(0).exact == start
    assert block.pts_at(7).exact == start + Fraction(7, 2)


def test_a_block_tells_the_coded_size_of_its_windows(sound: Callable[[str], Path]) -> None:
    path = sound("flac.flac")
    with closing(Audio(path).open()) as cursor:
        blocks = list(iter(cursor.next_block, None))
        total = cursor.take_receipt().num_demuxed
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(audio=0)]
    assert len(blocks[0]) == 16
    assert sum(int(block.num_bytes.sum()) for block in blocks) == sum(sizes)
    assert total >= len(sizes) - 1


def test_a_long_sound_comes_in_blocks_of_32_windows(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", "pcm_s16le", 8000, wave(8000, 10))
    with closing(Audio(path, window_seconds=0.125, sample_rate=8000).open()) as cursor:
        assert [len(block) for block in iter(cursor.next_block, None)] == [32, 32, 16]


def test_a_gap_in_the_sound_is_silence_and_moves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gap.mkv"
    samples = wave(16_000, 4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for start in range(0, samples.size, 1000):
            if 16_000 <= start < 32_000:
                continue
            part = np.ascontiguousarray(samples[None, start : start + 1000])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with closing(Audio(path).open()) as cursor:
        drained(cursor)
        items, errors = cursor.materialize(range(8), SPEC)
    assert not errors
    assert not items[2].data.any()
    assert not items[3].data.any()
    assert np.abs(items[4].data[0] - samples[32_000:40_000]).max() <= 1 / 32768


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mp3", "libmp3lame")])
def test_a_damaged_packet_is_an_error_of_its_windows_only(
    name: str, codec: str, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, codec, 16_000, wave(16_000, 6))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = b"\xff\x00\x55" * 100
    path.write_bytes(bytes(data))
    with closing(Audio(path, on_corrupt="skip").open()) as cursor:
        n = len(drained(cursor))
        items, errors = cursor.materialize(range(n), SPEC)
        assert cursor.take_receipt().num_errors == len(errors)
        cursor.materialize([0], SPEC)
        again = cursor.materialize([error.ordinal for error in errors], SPEC)
    assert 0 < len(errors) <= 3
    assert len(items) == n - len(errors)
    assert not again[0]
    with closing(Audio(path).open()) as cursor:
        drained(cursor)
        with pytest.raises(CorruptMedia, match="open it with on_corrupt='skip'"):
            cursor.materialize([errors[0].ordinal], SPEC)


def test_a_source_resumes_after_the_last_closed_window(sound: Callable[[str], Path]) -> None:
    with closing(Audio(sound("aac.m4a")).open(Position(10, 72_000))) as cursor:
        block = cursor.next_block()
        assert block is not None
        assert block.first == 10


def test_a_file_without_sound_is_refused(clip_path: Callable[[str], Path]) -> None:
    path = clip_path("mpeg4")
    with pytest.raises(SourceError, match="it has no audio stream, only video"):
        Audio(path).open()
    with pytest.raises(SourceError, match="no preview of grade 'audio'"):
        AudioPreview(str(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        Audio(tmp_path / "none.wav").open()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window_seconds": 0.12345}, "choose window_seconds so that they are a whole number"),
        ({"sample_rate": 10}, "sample_rate must be at least 1000 Hz, got 10"),
        ({"on_corrupt": "cry"}, "on_corrupt must be 'raise' or 'skip', got 'cry'"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build("source", "audio", path="a.wav", **options)


def test_a_row_is_loud_where_the_sound_is(tmp_path: Path) -> None:
    t = np.arange(16_000 * 4) / 16_000
    tone = (np.sin(2 * np.pi * 1000 * t) * (t >= 2)).astype(np.float32)
    path = encode(tmp_path / "a.wav", "pcm_s16le", 16_000, tone)
    with closing(AudioPreview(str(path))) as preview:
        rows = preview.at([Pts(i, Fraction(1)) for i in (1, 3)])
    assert rows.shape == (2, 32)
    assert rows.dtype == np.float32
    assert rows[0] == pytest.approx(np.log(1e-6))
    assert rows[1].max() > 0
    centre = 700 * (10 ** ((rows[1].argmax() + 1) * 2840.02 / 33 / 2595) - 1)
    assert 850 < centre < 1150


def test_a_row_does_not_depend_on_what_was_asked_before(sound: Callable[[str], Path]) -> None:
    moments = [Pts(i, Fraction(1, 4)) for i in range(31)]
    with closing(AudioPreview(str(sound("aac.m4a")))) as preview:
        together = preview.at(moments)
    with closing(AudioPreview(str(sound("aac.m4a")))) as preview:
        back_and_forth = {i: preview.at([moments[i]])[0] for i in (28, 3, 17)}
    for i, row in back_and_forth.items():
        assert row == pytest.approx(together[i], abs=1e-4)


def test_a_row_is_missing_where_there_is_no_sound(sound: Callable[[str], Path]) -> None:
    with closing(AudioPreview(str(sound("pcm.wav")))) as preview:
        rows = preview.at([Pts(-5, Fraction(1)), Pts(5, Fraction(1)), Pts(99, Fraction(1))])
    assert np.isnan(rows).all(axis=1).tolist() == [True, False, True]


def test_the_sound_of_a_video_is_a_preview_of_it(clip_path: Callable[[str], Path]) -> None:
    with closing(AudioPreview(str(clip_path("with_audio")))) as preview:
        rows = preview.at([Pts(1, Fraction(1))])
    assert not np.isnan(rows).any()


def test_reading_keeps_a_bounded_stretch_of_samples(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", "aac", 8000, wave(8000, 90))
    with closing(SampleReader(str(path))) as reader:
        reader.read(80 * 8000, 81 * 8000)
        assert sum(len(chunk) for _, chunk in reader._chunks) < 33 * 8000


def test_log_mel_of_silence_is_the_floor() -> None:
    assert log_mel(np.zeros((2, 8000), np.float32)) == pytest.approx(np.log(1e-6))
