"""An index file in the making: one clip and its windows."""

from streamdyn.index import MediaRow
from streamdyn.testing.sinks import sample_results

CLIP = MediaRow("clip.mp4", bytes=10, mtime_ns=5, fingerprint="abc")


def fill(index, media=CLIP, num_windows=4, config_hash="c"):
    sink = index.begin(media, config_hash)
    write_all(sink, sample_results(media.path, num_windows))
    return sink


def write_all(sink, results):
    for result in results:
        sink.write(result, b"%d" % result.window.stop)
