"""Where results are kept, searched and exported: one SQLite file."""

from streamdyn.index.media_sink import MediaSink
from streamdyn.index.records import MediaRow, Segment, StoredWindow
from streamdyn.index.sqlite import SqliteIndex

__all__ = ["MediaRow", "MediaSink", "Segment", "SqliteIndex", "StoredWindow"]
