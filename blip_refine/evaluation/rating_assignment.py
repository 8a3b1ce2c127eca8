"""Who rates what next, and in which order: every image equally often, every order equally often, checks in between."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence

ABANDONED_AFTER = 1800.0
"""Seconds after which a picture that was shown and not rated no longer counts as taken."""


def check_is_due(database: sqlite3.Connection, rater: str, every: int) -> bool:
    """Whether a rater's next task is an attention check.

    Args:
        database (`sqlite3.Connection`): The study.
        rater (`str`): Who.
        every (`int`): After so many pictures; 0 for never.
    """
    if not every:
        return False
    since = database.execute(
        "SELECT COUNT(*) FROM tasks WHERE rater = :rater AND place > "
        "(SELECT COALESCE(MAX(place), 0) FROM tasks WHERE rater = :rater AND item IS NULL)",
        {"rater": rater},
    ).fetchone()[0]
    # The first check comes early: whoever does not read is told apart before much is lost.
    first = database.execute("SELECT COUNT(*) FROM tasks WHERE rater = ? AND item IS NULL", (rater,)).fetchone()[0]
    return since >= (every if first else max(1, every // 2))


def choose_item(database: sqlite3.Connection, rater: str, ratings_per_image: int, rng: random.Random) -> int | None:
    """The item with the fewest raters among those that still need one and that this rater has not seen."""
    rows = database.execute(
        "SELECT i.item, COUNT(t.task) AS taken FROM items i LEFT JOIN tasks t "
        "ON t.item = i.item AND (t.done IS NOT NULL OR t.given > ?) "
        "WHERE i.item NOT IN (SELECT item FROM tasks WHERE rater = ? AND item IS NOT NULL) "
        "GROUP BY i.item HAVING taken < ?",
        (time.time() - ABANDONED_AFTER, rater, ratings_per_image),
    ).fetchall()
    if not rows:
        return None
    fewest = min(row["taken"] for row in rows)
    return rng.choice([row["item"] for row in rows if row["taken"] == fewest])


def choose_order(database: sqlite3.Connection, item: int, systems: Sequence[str], rng: random.Random) -> list[str]:
    """The order of the systems used least for this item, then least over all, then by chance."""
    here: dict[str, int] = {}
    everywhere: dict[str, int] = {}
    counted = "SELECT shown, item = ? AS here, COUNT(*) AS times FROM tasks WHERE item IS NOT NULL GROUP BY 1, 2"
    for row in database.execute(counted, (item,)):
        everywhere[row["shown"]] = everywhere.get(row["shown"], 0) + row["times"]
        if row["here"]:
            here[row["shown"]] = row["times"]

    def used(order: list[str]) -> tuple[int, int, float]:
        key = json.dumps(order)
        return here.get(key, 0), everywhere.get(key, 0), rng.random()

    return min((list(order) for order in _orders(systems)), key=used)


def _orders(systems: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All orders of a few systems; of many, those in which each stands once in each place."""
    if len(systems) <= 4:
        yield from itertools.permutations(systems)
        return
    for turn in range(len(systems)):
        order = (*systems[turn:], *systems[:turn])
        yield order
        yield order[::-1]
