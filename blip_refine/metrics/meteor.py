"""METEOR 1.5 by its official program, the jar that `pycocoevalcap` brings.

Denkowski & Lavie 2014, "Meteor Universal". The program is asked as the COCO evaluation asks it (English, `-norm`,
captions already tokenized), with what its usual wrapper lacks: a forced locale, time limits, drained error output,
and input in which no character can end a field or a line.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import ConfigurationError, MetricError, MissingExtraError
from .java import LOCALE, Java, JavaProcess, find_java

TIMEOUT = 600.0
"""Seconds without an answer after which the program is given up. Its first answer waits for its
word lists: 2 s on an idle machine, minutes on one that is busy elsewhere."""

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
"""The English task parameters of METEOR 1.5; the stages are exact, stem, synonym, paraphrase."""
N_STATISTICS = 23
CHECKED = 50
"""Of how many captions the program is asked for the score as well, to compare it with the formula's."""

_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|\|\|\|+")


def _sendable(text: str) -> str:
    """The caption as one field of one line: control characters, line separators and `|||` become spaces."""
    return " ".join(_UNSENDABLE.sub(" ", text).split(" "))


def meteor_jar() -> Path:
    """Where METEOR's jar is.

    Raises:
        ConfigurationError: `pycocoevalcap` is not installed, or came without the jar.
    """
    spec = find_spec("pycocoevalcap")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        jar = Path(folder) / "meteor" / "meteor-1.5.jar"
        if jar.is_file():
            return jar
    if spec:
        raise ConfigurationError(
            "METEOR: the installed `pycocoevalcap` came without meteor-1.5.jar: pip install --force-reinstall "
            "pycocoevalcap"
        )
    raise MissingExtraError("pycocoevalcap", "metrics", "run METEOR, whose program it brings")


class Meteor:
    """A running METEOR. One process serves any number of calls, from any thread, one at a time.

    Args:
        timeout (`float`, defaults to 600): Seconds without any answer after which the program is given up.
        java (`Java`, *optional*): The runtime; by default the first that works.
    """

    def __init__(self, timeout: float = TIMEOUT, java: Java | None = None):
        self.timeout, self.java = timeout, java
        self._lock = threading.Lock()
        self._process: JavaProcess | None = None
        self._owner = 0

    def _running(self) -> JavaProcess:
        # After a fork the pipes belong to the parent: a child that used them would take its answers.
        if self._process is None or not self._process.alive or self._owner != os.getpid():
            jar, java = meteor_jar(), self.java or find_java()
            command = [java.path, *LOCALE, "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
            self._process, self._owner = JavaProcess(command, "METEOR", jar.parent), os.getpid()
        return self._process

    def score(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Score tokenized captions.

        Args:
            predictions (`Sequence[str]`): One caption an image.
            references (`Sequence[Sequence[str]]`): The references of each image, in the same order.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: Statistics of shape `(images, 23)`, to be summed and aggregated, and the
            scores of the images, of shape `(images,)`.

        Raises:
            ConfigurationError: There is no Java, or no jar.
            MetricError: The program failed, or was silent for too long.
        """
        asked = [
            " ||| ".join(["SCORE", *map(_sendable, group), _sendable(text)])
            for text, group in zip(predictions, references, strict=True)
        ]
        # Systems that are scored together often say the same of an image.
        places = {line: place for place, line in enumerate(dict.fromkeys(asked))}
        if not places:
            return np.zeros((0, N_STATISTICS)), np.zeros(0)
        with self._lock:
            process = self._running()
            try:
                answers = process.ask(list(places), len(places), self.timeout)
                distinct = np.array([_statistics(answer) for answer in answers])
                # One chunk from end to end has no break, and the program counts none for it.
                whole = (
                    (distinct[:, 20] == 1) & (distinct[:, 21] == distinct[:, 0]) & (distinct[:, 22] == distinct[:, 1])
                )
                distinct[whole, 20] = 0.0
                # The program scores sets of statistics too, in a quarter of the time again. The formula gives the
                # same, which is made sure of on some.
                some = np.linspace(0, len(answers) - 1, min(CHECKED, len(answers))).astype(int)
                line = " ||| ".join(["EVAL", *(answers[place] for place in some)])
                values = [_number(score) for score in process.ask([line], len(some) + 1, self.timeout)]
            except BaseException:
                # Answers may be left in the pipe: another call must not read them as its own.
                process.end()
                self._process = None
                raise
        ours: np.ndarray = np.append(aggregate_meteor(distinct[some]), aggregate_meteor(distinct[some].sum(axis=0)))
        if np.abs(ours - values).max() > 1e-9:
            self.close()
            raise MetricError(
                f"METEOR: its scores are not what its statistics give ({values[-1]}, {ours[-1]}); this is not version "
                "1.5 of the program."
            )
        rows = distinct[[places[line] for line in asked]]
        return rows, aggregate_meteor(rows)

    def close(self) -> None:
        """End the process. The next call starts another one."""
        if self._process is not None and self._owner == os.getpid():
            self._process.end()
        self._process = None


def _statistics(answer: str) -> list[float]:
    values = [_number(value) for value in answer.split()]
    if len(values) != N_STATISTICS:
        raise MetricError(f"METEOR: expected {N_STATISTICS} numbers for an image, got {answer[:200]!r}.")
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MetricError(f"METEOR: expected a number, got {text[:200]!r}.") from None


def aggregate_meteor(sums: np.ndarray) -> np.ndarray:
    """METEOR from summed statistics (Denkowski & Lavie 2014, section 2).

    Args:
        sums (`np.ndarray` of shape `(..., 23)`): Lengths of prediction and reference, function words of both, for each
            of four stages the matched content and function words of both, chunks, and matched words of both.

    Returns:
        `np.ndarray` of shape `(...)`.
    """
    sums = np.asarray(sums, dtype=np.float64)
    stages = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    matched = np.einsum("...si,s->...i", stages, STAGE_WEIGHTS)
    prediction = DELTA * (sums[..., 0] - sums[..., 2]) + (1 - DELTA) * sums[..., 2]
    reference = DELTA * (sums[..., 1] - sums[..., 3]) + (1 - DELTA) * sums[..., 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = (DELTA * matched[..., 0] + (1 - DELTA) * matched[..., 2]) / prediction
        recall = (DELTA * matched[..., 1] + (1 - DELTA) * matched[..., 3]) / reference
        mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
        words = (sums[..., 21] + sums[..., 22]) / 2
        penalty = GAMMA * (sums[..., 20] / words) ** BETA
    return np.nan_to_num(mean * (1 - penalty), nan=0.0, posinf=0.0, neginf=0.0)


_shared = Meteor()
atexit.register(_shared.close)


def meteor(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """`Meteor.score` by one process that this interpreter shares and ends when it exits."""
    return _shared.score(predictions, references)


def stop_meteor() -> None:
    """End that process now; a call that waits for its answers fails at once."""
    _shared.close()
