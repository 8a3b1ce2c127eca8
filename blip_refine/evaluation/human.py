"""People's ratings of captions, kept in one SQLite file: who sees what, in which order, and what they answered.

A rater is given one picture at a time with the captions of all systems, blind and in an order of its own. Several can
work at once, in one process or in many; every answer is on the disk before the next picture is shown, and a rater who
comes back goes on at the same picture. Needs neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DataError, SourceFormatError, SourceNotFoundError
from .rating_assignment import ABANDONED_AFTER, check_is_due, choose_item, choose_order
from .rating_questions import CRITERIA, SCALE, clean_note, questions_of
from .rating_store import SCHEMA, connection

__all__ = ["CRITERIA", "SCALE", "RatingStudy", "RatingTask", "clean_name"]


@dataclass(frozen=True, slots=True)
class RatingTask:
    """One picture as one rater sees it.

    Args:
        task (`int`): Its number.
        rater (`str`): Who rates it.
        captions (`tuple[str, ...]`): The captions in the order in which they are shown; systems that say the same
            share one.
        image (`Path`, *optional*): The picture.
        place (`int`): The how manieth task of this rater it is, from 1.
        check (`bool`): Whether it is an attention check.
    """

    task: int
    rater: str
    captions: tuple[str, ...]
    image: Path | None
    place: int
    check: bool = False


class RatingStudy:
    """A study in one SQLite file.

    Args:
        path (`str` or `os.PathLike`): The file; made by [`RatingStudy.create`].

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: It is not a study.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            raise SourceNotFoundError(f"There is no rating study {str(path)!r}; `blip-refine rate RUN` makes one.")
        try:
            with self.connect() as database:
                known = {name: json.loads(value) for name, value in database.execute("SELECT * FROM settings")}
        except sqlite3.DatabaseError as error:
            raise SourceFormatError(f"{path} is not a rating study ({error}).") from error
        self.systems: tuple[str, ...] = tuple(known["systems"])
        self.ratings_per_image: int = known["ratings_per_image"]
        self.check_every: int = known["check_every"]
        self.seed: int = known["seed"]
        # Studies that were begun before there were reviews name no kind.
        self.kind: str = known.get("kind", "rating")
        self.questions = questions_of(self.kind)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        items: Iterable[Mapping[str, Any]],
        *,
        ratings_per_image: int = 3,
        check_every: int = 10,
        seed: int = 0,
        kind: str = "rating",
    ) -> RatingStudy:
        """Begin a study, or open the one that is there already for the same images and captions.

        Args:
            path (`str` or `os.PathLike`): The file.
            items (`Iterable[Mapping]`): A row an image: `image_id`, `systems` (name to caption) and, where there is
                one, `image` (path).
            ratings_per_image (`int`, defaults to 3): By how many different raters each image is to be rated.
            check_every (`int`, defaults to 10): After so many pictures a rater gets an attention check; 0 for none.
            seed (`int`, defaults to 0): Of the orders.
            kind (`str`, defaults to `"rating"`): "rating" (1 to 5 in each of `CRITERIA`) or "review" (captions are
                marked with `MARKS`, and noted on).

        Raises:
            DataError: There is no image, or images have captions of different systems.
            ConfigurationError: The study that is there is about other captions, or a number is out of range.
        """
        if ratings_per_image < 1 or check_every < 0:
            raise ConfigurationError("Each image needs at least one rating, and checks come every so many pictures.")
        questions_of(kind)
        rows = [(str(row["image_id"]), row.get("image"), dict(row["systems"])) for row in items]
        if not rows:
            raise DataError("There is no image to rate.")
        systems = list(rows[0][2])
        for image_id, _, captions in rows:
            if list(captions) != systems or not systems:
                raise DataError(f"{image_id!r} has captions of {list(captions)}; the first image has {systems}.")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        settings = {
            "systems": systems,
            "ratings_per_image": ratings_per_image,
            "check_every": check_every,
            "seed": seed,
            "kind": kind,
            "content": hashlib.sha256(
                json.dumps([(image_id, captions) for image_id, _, captions in rows]).encode()
            ).hexdigest(),
        }
        with connection(path) as database:
            database.executescript(SCHEMA)
            database.execute("BEGIN IMMEDIATE")
            there = database.execute("SELECT value FROM settings WHERE name = 'content'").fetchone()
            if there is not None and json.loads(there[0]) != settings["content"]:
                raise ConfigurationError(f"{path} is a study of other captions: name another file for a new study.")
            begun = database.execute("SELECT value FROM settings WHERE name = 'kind'").fetchone()
            before = "rating" if begun is None else json.loads(begun[0])
            if there is not None and before != kind:
                raise ConfigurationError(f"{path} is a study of kind {before}: name another file for a {kind}.")
            if there is None:
                stored = [(name, json.dumps(value)) for name, value in settings.items()]
                database.executemany("INSERT INTO settings VALUES (?, ?)", stored)
                database.executemany(
                    "INSERT INTO items (image_id, image, captions) VALUES (?, ?, ?)",
                    [
                        (image_id, str(image) if image is not None else None, json.dumps(captions))
                        for image_id, image, captions in rows
                    ],
                )
            database.execute("COMMIT")
        return cls(path)

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """The study's database, for the length of a `with`."""
        with connection(self.path) as database:
            yield database

    # Raters

    def add_rater(self, rater: str) -> str:
        """Let a rater in by a token of their own. A new token takes the place of an older one.

        Args:
            rater (`str`): A name.

        Returns:
            `str`: The token. Only its hash is kept.
        """
        rater = clean_name(rater)
        token = secrets.token_urlsafe(16)
        with self.connect() as database:
            database.execute(
                "INSERT INTO raters VALUES (?, ?, ?) ON CONFLICT (rater) DO UPDATE SET token = excluded.token",
                (rater, _hash(token), time.time()),
            )
        return token

    def sign_in(self, name: str) -> str:
        """A rater by name, without a token; made if need be. For a study on one's own machine."""
        rater = clean_name(name)
        with self.connect() as database:
            database.execute("INSERT OR IGNORE INTO raters VALUES (?, NULL, ?)", (rater, time.time()))
        return rater

    def rater_of(self, token: str) -> str | None:
        """Whose token this is; `None` where it is nobody's."""
        found = None
        with self.connect() as database:
            for rater, known in database.execute("SELECT rater, token FROM raters WHERE token IS NOT NULL"):
                # Every token is compared in full: how long it takes says nothing about any of them.
                if hmac.compare_digest(known, _hash(token)):
                    found = rater
        return found

    def has_tokens(self) -> bool:
        """Whether any rater has a token."""
        with self.connect() as database:
            return database.execute("SELECT 1 FROM raters WHERE token IS NOT NULL").fetchone() is not None

    def raters(self) -> list[str]:
        """The names of all raters, those with a link who have not begun among them."""
        with self.connect() as database:
            rows = database.execute("SELECT rater FROM raters UNION SELECT rater FROM tasks ORDER BY rater")
            return [rater for (rater,) in rows]

    # Tasks

    def next_task(self, rater: str) -> RatingTask | None:
        """What a rater is to rate now: the picture they left, or a new one; `None` when there is nothing left to do.

        The picture is the one with the fewest raters, and the order of its captions the one used least, for this
        picture first and over all pictures then.
        """
        with self.connect() as database:
            database.execute("BEGIN IMMEDIATE")
            row = database.execute("SELECT * FROM tasks WHERE rater = ? AND done IS NULL", (rater,)).fetchone()
            if row is None:
                row = self._give(database, rater)
            else:
                database.execute("UPDATE tasks SET given = ? WHERE task = ?", (time.time(), row["task"]))
            found = None if row is None else self._task(database, row)
            database.execute("COMMIT")
        return found

    def _give(self, database: sqlite3.Connection, rater: str) -> sqlite3.Row | None:
        (before,) = database.execute("SELECT COUNT(*) FROM tasks WHERE rater = ?", (rater,)).fetchone()
        rng = random.Random(f"{self.seed}:{rater}:{before}")
        item, shown = None, json.dumps([])
        if check_is_due(database, rater, self.check_every):
            shown = json.dumps([self.questions.draw_check(rng)])
        else:
            item = choose_item(database, rater, self.ratings_per_image, rng)
            if item is None:
                return None
            shown = json.dumps(choose_order(database, item, self.systems, rng))
        database.execute(
            "INSERT INTO tasks (rater, item, place, shown, given) VALUES (?, ?, ?, ?, ?)",
            (rater, item, before + 1, shown, time.time()),
        )
        return database.execute("SELECT * FROM tasks WHERE task = last_insert_rowid()").fetchone()

    def _task(self, database: sqlite3.Connection, row: sqlite3.Row) -> RatingTask:
        shown = json.loads(row["shown"])
        if row["item"] is None:
            text = self.questions.check_text(shown[0])
            return RatingTask(row["task"], row["rater"], (text,), None, row["place"], check=True)
        item = database.execute("SELECT image, captions FROM items WHERE item = ?", (row["item"],)).fetchone()
        captions = json.loads(item["captions"])
        image = self.path.parent / item["image"] if item["image"] is not None else None
        lines = tuple(dict.fromkeys(captions[system] for system in shown))
        return RatingTask(row["task"], row["rater"], lines, image, row["place"])

    def save(
        self,
        task: int,
        rater: str,
        scores: Sequence[Mapping[str, int]],
        preferred: int | None = None,
        notes: Sequence[str] | None = None,
    ) -> None:
        """Keep a rater's answers to one task. They are on the disk when this returns.

        Args:
            task (`int`): The task.
            rater (`str`): Who answers; must be the one it was given to.
            scores (`Sequence[Mapping[str, int]]`): For each caption in the order shown, criterion to score; in a
                review mark to 1 (set) or 0.
            preferred (`int`, *optional*): Place of the caption liked best, from 0; -1 for none of them.
            notes (`Sequence[str]`, *optional*): In a review, a note on each caption in the order shown, or "".

        Raises:
            DataError: The task is not this rater's, or an answer is missing or out of range.
        """
        with self.connect() as database:
            database.execute("BEGIN IMMEDIATE")
            row = database.execute("SELECT * FROM tasks WHERE task = ? AND rater = ?", (task, rater)).fetchone()
            if row is None:
                raise DataError(f"Task {task} was not given to {rater!r}.")
            if row["done"] is not None:
                # Sent twice: a double click, or an answer that did arrive before the connection broke.
                database.execute("ROLLBACK")
                return
            shown = self._task(database, row)
            answers = self._checked(scores, len(shown.captions), preferred)
            texts = [clean_note(note, place) for place, note in enumerate(notes or (), 1)]
            if shown.check:
                (wanted,) = json.loads(row["shown"])
                passed = self.questions.passed(answers[0], wanted)
                database.execute("UPDATE tasks SET done = ?, passed = ? WHERE task = ?", (time.time(), passed, task))
            else:
                self._keep(database, row, shown, answers, preferred, texts)
            database.execute("COMMIT")

    def _keep(
        self,
        database: sqlite3.Connection,
        row: sqlite3.Row,
        shown: RatingTask,
        answers: Sequence[Mapping[str, int]],
        preferred: int | None,
        notes: Sequence[str],
    ) -> None:
        (text,) = database.execute("SELECT captions FROM items WHERE item = ?", (row["item"],)).fetchone()
        captions = json.loads(text)
        rows = [
            (row["task"], system, criterion, score)
            for system, caption in captions.items()
            for criterion, score in answers[shown.captions.index(caption)].items()
        ]
        database.executemany("INSERT INTO ratings VALUES (?, ?, ?, ?)", rows)
        noted = {caption: note for caption, note in zip(shown.captions, notes, strict=False) if note}
        remarks = [(row["task"], system, noted[caption]) for system, caption in captions.items() if caption in noted]
        if remarks:
            # Studies of ratings that were begun before there were reviews have no such table.
            database.executemany("INSERT INTO notes VALUES (?, ?, ?)", remarks)
        liked = None
        if preferred is not None:
            best = shown.captions[preferred] if preferred >= 0 else None
            liked = json.dumps([system for system, caption in captions.items() if caption == best])
        database.execute("UPDATE tasks SET done = ?, preferred = ? WHERE task = ?", (time.time(), liked, row["task"]))

    def _checked(
        self, scores: Sequence[Mapping[str, int]], captions: int, preferred: int | None
    ) -> list[dict[str, int]]:
        if len(scores) != captions:
            raise DataError(f"{captions} captions were shown, and {len(scores)} were rated.")
        if preferred is not None and not -1 <= preferred < captions:
            raise DataError(f"There is no caption {preferred + 1} to prefer.")
        return self.questions.check_answers(scores)

    def captions_of_task(self, task: int, rater: str) -> int:
        """How many captions a task shows.

        Raises:
            DataError: It was not given to this rater.
        """
        with self.connect() as database:
            row = database.execute("SELECT * FROM tasks WHERE task = ? AND rater = ?", (task, rater)).fetchone()
            if row is None:
                raise DataError(f"Task {task} was not given to {rater!r}.")
            return len(self._task(database, row).captions)

    def progress(self, rater: str) -> tuple[int, int]:
        """How many pictures a rater has rated, and how many there are for them to rate as things stand."""
        with self.connect() as database:
            (done,) = database.execute(
                "SELECT COUNT(*) FROM tasks WHERE rater = ? AND item IS NOT NULL AND done IS NOT NULL", (rater,)
            ).fetchone()
            (left,) = database.execute(
                "SELECT COUNT(*) FROM (SELECT i.item FROM items i LEFT JOIN tasks t ON t.item = i.item "
                "AND t.rater != :rater AND (t.done IS NOT NULL OR t.given > :since) "
                "WHERE i.item NOT IN (SELECT item FROM tasks WHERE rater = :rater AND item IS NOT NULL "
                "AND done IS NOT NULL) GROUP BY i.item HAVING COUNT(t.task) < :wanted)",
                {"rater": rater, "since": time.time() - ABANDONED_AFTER, "wanted": self.ratings_per_image},
            ).fetchone()
        return done, done + left


def clean_name(name: str) -> str:
    """A rater's name without surrounding space.

    Raises:
        ConfigurationError: It is empty, too long, or has characters that no name has.
    """
    name = " ".join(name.split())
    if not name or len(name) > 80 or not name.isprintable():
        raise ConfigurationError("A rater needs a name of 1 to 80 letters.")
    return name


def _hash(token: str) -> str:
    # The tokens are random and long: a plain hash of them cannot be turned back.
    return hashlib.sha256(token.encode()).hexdigest()
