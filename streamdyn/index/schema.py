"""The tables of an index file, and the check that a file is one of ours.

The first step makes version 1; a later version appends a step and never edits an old one.
`PRAGMA user_version` holds the number of steps that were taken.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from streamdyn.errors import SchemaTooNew, StoreError

APPLICATION_ID = 0x5D79DE01
"""`PRAGMA application_id` of an index, so that other SQLite files are told apart."""

_VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started_at TEXT NOT NULL,
    command TEXT NOT NULL,
    config TEXT NOT NULL,
    version TEXT NOT NULL
);

CREATE TABLE tuning (
    config_hash TEXT PRIMARY KEY,
    num_audits INTEGER NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE media (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL UNIQUE,
    stream TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    codec TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    duration_seconds REAL,
    rate TEXT,
    time_base TEXT,
    num_items INTEGER,
    note TEXT NOT NULL,
    start_ticks INTEGER,
    stop_ticks INTEGER,
    propagation TEXT,
    status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'done', 'failed')),
    error TEXT NOT NULL,
    config_hash TEXT NOT NULL
);

CREATE TABLE windows (
    media_id TEXT NOT NULL REFERENCES media (id) ON DELETE CASCADE,
    first INTEGER NOT NULL,
    num_items INTEGER NOT NULL,
    pts BLOB NOT NULL,
    keyframe BLOB NOT NULL,
    num_bytes BLOB NOT NULL,
    disposable BLOB NOT NULL,
    gop BLOB NOT NULL,
    reach BLOB NOT NULL,
    reasons BLOB NOT NULL,
    scores BLOB NOT NULL,
    PRIMARY KEY (media_id, first)
);

CREATE TABLE outcomes (
    id TEXT PRIMARY KEY,
    media_id TEXT NOT NULL REFERENCES media (id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    ticks INTEGER NOT NULL,
    recognizer TEXT NOT NULL,
    label TEXT NOT NULL,
    score REAL NOT NULL,
    labels TEXT NOT NULL,
    text TEXT NOT NULL,
    boxes TEXT NOT NULL,
    embedding BLOB
);

CREATE INDEX outcomes_by_item ON outcomes (media_id, ordinal, recognizer);

CREATE INDEX outcomes_by_recognizer ON outcomes (recognizer);

CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    media_id TEXT NOT NULL REFERENCES media (id) ON DELETE CASCADE,
    recognizer TEXT NOT NULL,
    start_ordinal INTEGER NOT NULL,
    stop_ordinal INTEGER NOT NULL,
    start_ticks INTEGER NOT NULL,
    stop_ticks INTEGER NOT NULL,
    label TEXT NOT NULL,
    score REAL NOT NULL,
    num_observed INTEGER NOT NULL,
    num_propagated INTEGER NOT NULL,
    best_outcome_id TEXT NOT NULL,
    text TEXT NOT NULL
);

CREATE INDEX segments_by_place ON segments (media_id, recognizer, start_ordinal);

CREATE INDEX segments_by_label ON segments (label);

CREATE INDEX segments_by_text ON segments (text);

CREATE TABLE audits (
    media_id TEXT NOT NULL REFERENCES media (id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    ticks INTEGER NOT NULL,
    agreement REAL NOT NULL,
    weight REAL NOT NULL,
    propagated_from INTEGER NOT NULL,
    expected TEXT NOT NULL,
    found TEXT NOT NULL,
    window_first INTEGER NOT NULL,
    PRIMARY KEY (media_id, ordinal)
);

CREATE TABLE errors (
    media_id TEXT NOT NULL REFERENCES media (id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    ticks INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (media_id, ordinal)
);

CREATE TABLE receipts (
    media_id TEXT NOT NULL REFERENCES media (id) ON DELETE CASCADE,
    window_first INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('plan', 'audit')),
    receipt TEXT NOT NULL,
    PRIMARY KEY (media_id, window_first, kind)
);

CREATE TABLE checkpoints (
    media_id TEXT PRIMARY KEY REFERENCES media (id) ON DELETE CASCADE,
    stop_ordinal INTEGER NOT NULL,
    checkpoint BLOB NOT NULL
);

CREATE TABLE phrases (
    encoder TEXT NOT NULL,
    phrase TEXT NOT NULL,
    embedding BLOB NOT NULL,
    PRIMARY KEY (encoder, phrase)
);

CREATE VIRTUAL TABLE words USING fts5 (
    label, text, name, tokenize = 'porter unicode61 remove_diacritics 2', prefix = '2 3'
);
"""
# Rows of `words`: rowid n > 0 is the segment with id n, rowid -n the media file with number n.

_VERSION_2 = """
CREATE TABLE ranges (
    media_id TEXT NOT NULL REFERENCES media (id) ON DELETE CASCADE,
    first INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    after_ticks INTEGER,
    hint TEXT NOT NULL,
    is_done INTEGER NOT NULL,
    PRIMARY KEY (media_id, first)
) WITHOUT ROWID;

CREATE TABLE range_checkpoints (
    media_id TEXT NOT NULL REFERENCES media (id) ON DELETE CASCADE,
    first INTEGER NOT NULL,
    stop_ordinal INTEGER NOT NULL,
    checkpoint BLOB NOT NULL,
    PRIMARY KEY (media_id, first)
);

INSERT INTO range_checkpoints SELECT media_id, 0, stop_ordinal, checkpoint FROM checkpoints;

DROP TABLE checkpoints;

ALTER TABLE range_checkpoints RENAME TO checkpoints;
"""
# A file that is watched in ranges has a checkpoint for each, else one with `first` 0.

_VERSION_3 = """
CREATE TABLE streams (
    name TEXT PRIMARY KEY,
    media_id TEXT NOT NULL,
    config_hash TEXT NOT NULL,
    stop_ordinal INTEGER NOT NULL,
    after_ticks INTEGER NOT NULL,
    events BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE events (
    id TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    label TEXT NOT NULL,
    score REAL NOT NULL,
    time_base TEXT NOT NULL,
    start_ticks INTEGER NOT NULL,
    stop_ticks INTEGER NOT NULL,
    best_ticks INTEGER NOT NULL,
    is_over INTEGER NOT NULL
);

CREATE INDEX events_by_time ON events (stream, start_ticks);

CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL CHECK (topic IN ('event', 'outcome')),
    message TEXT NOT NULL
);

CREATE TABLE deliveries (
    sink TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) WITHOUT ROWID;
"""
# A live stream is kept in chapters, one media row after another; `streams` says where it stands.
# What sinks are told waits in `outbox`; `deliveries` has the last one that each of them has taken.

STEPS = (_VERSION_1, _VERSION_2, _VERSION_3)
SCHEMA_VERSION = len(STEPS)


def check_is_ours(connection: sqlite3.Connection, path: Path) -> int:
    """Version of the schema in the file, 0 for a file with nothing in it.

    Raises:
        StoreError: Another program made this database.
        SchemaTooNew: A newer streamdyn made it.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (num_tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application == 0 and version == 0 and num_tables == 0:
        return 0
    if application != APPLICATION_ID:
        raise StoreError(
            f"cannot use {path} as an index: it is an SQLite database of another program; "
            "give the index a file of its own"
        )
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"cannot open the index {path}: its schema has version {version} and this streamdyn "
            f"reads up to version {SCHEMA_VERSION}; update streamdyn, or make a new index"
        )
    return int(version)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Take the steps that the file lacks, all in one transaction of the caller's."""
    # Read again: another process may have taken the steps while we waited for the lock.
    for step in STEPS[check_is_ours(connection, path) :]:
        for statement in step.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
