"""The SQLite file of a rating study: its tables, and connections that lose nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    item INTEGER PRIMARY KEY, image_id TEXT NOT NULL UNIQUE, image TEXT, captions TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (rater TEXT PRIMARY KEY, token TEXT, joined REAL NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (
    task INTEGER PRIMARY KEY, rater TEXT NOT NULL REFERENCES raters, item INTEGER REFERENCES items,
    place INTEGER NOT NULL, shown TEXT NOT NULL, given REAL NOT NULL, done REAL,
    preferred TEXT, passed INTEGER, UNIQUE (rater, place), UNIQUE (rater, item));
CREATE TABLE IF NOT EXISTS ratings (
    task INTEGER NOT NULL REFERENCES tasks, system TEXT NOT NULL, criterion TEXT NOT NULL, score INTEGER NOT NULL,
    PRIMARY KEY (task, system, criterion));
CREATE TABLE IF NOT EXISTS notes (
    task INTEGER NOT NULL REFERENCES tasks, system TEXT NOT NULL, note TEXT NOT NULL, PRIMARY KEY (task, system));
CREATE INDEX IF NOT EXISTS tasks_by_item ON tasks (item);
"""


@contextmanager
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a study's file, for the length of a `with`."""
    # A connection a call: cheap, and safe from any thread and process. Transactions are begun by hand.
    database = sqlite3.connect(path, timeout=60, isolation_level=None)
    try:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode = WAL")
        # An answer must survive a power cut, too.
        database.execute("PRAGMA synchronous = FULL")
        yield database
    finally:
        database.close()
