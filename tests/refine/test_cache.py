"""The cache: keys, damage, and several processes at once."""

from __future__ import annotations

import multiprocessing
import sqlite3
from dataclasses import replace

import pytest
from PIL import Image

from blip_refine import RefineRequest
from blip_refine.errors import ConfigurationError, SourceFormatError
from blip_refine.refine import AnswerCache, Proposal
from blip_refine.refine.cache import answer_key, image_digest


def test_what_was_put_in_comes_out(tmp_path):
    proposal = Proposal("A dog.", raw='"A dog."', prompt_id="t@1", tokens=7, cost=0.1, latency=0.5)
    with AnswerCache(tmp_path / "deep" / "answers.sqlite") as cache:
        cache.put("k", proposal)
        assert cache.get(["k", "other"]) == [proposal, None]
        cache.put("k", Proposal("another"))
        assert cache.get(["k"]) == [proposal], "the first answer stays"
        assert len(cache) == 1
    with AnswerCache(tmp_path / "deep" / "answers.sqlite") as cache:
        assert cache.get(["k"]) == [proposal]


def test_many_keys_at_once(tmp_path):
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        for number in range(1200):
            cache.put(str(number), Proposal(str(number)))
        found = cache.get([str(number) for number in range(2000)])
        assert [one.text for one in found[:1200]] == [str(number) for number in range(1200)]
        assert found[1200:] == [None] * 800


def test_anything_that_can_change_the_answer_changes_the_key():
    base = RefineRequest("a dog", ("a cat",), -1.0, b"image", {"place": "Lisbon"}, "1")
    keys = {
        answer_key("n", {"o": 1}, base),
        answer_key("m", {"o": 1}, base),
        answer_key("n", {"o": 2}, base),
        answer_key("n", {"o": 1}, base, "too long"),
        answer_key("n", {"o": 1}, replace(base, candidate_confidences=(-1.0,))),
        answer_key("n", {"o": 1}, replace(base, candidate_confidences=(-2.0,))),
        *(
            answer_key("n", {"o": 1}, RefineRequest(*fields))
            for fields in (
                ("a dog.", ("a cat",), -1.0, b"image", {"place": "Lisbon"}),
                ("a dog", ("a bat",), -1.0, b"image", {"place": "Lisbon"}),
                ("a dog", ("a cat",), -2.0, b"image", {"place": "Lisbon"}),
                ("a dog", ("a cat",), -1.0, b"other", {"place": "Lisbon"}),
                ("a dog", ("a cat",), -1.0, b"image", {"place": "Porto"}),
                # Texts must not run into one another.
                ("a dog", ("a", "cat"), -1.0, b"image", {"place": "Lisbon"}),
            )
        ),
    }
    assert len(keys) == 12


def test_images_are_known_by_their_content(tmp_path):
    picture = Image.new("RGB", (4, 4), "red")
    for name in ("a.png", "b.png"):
        picture.save(tmp_path / name)
    assert image_digest(tmp_path / "a.png") == image_digest(str(tmp_path / "b.png"))
    assert image_digest(tmp_path / "a.png") == image_digest((tmp_path / "a.png").read_bytes())
    assert image_digest(picture) == image_digest(picture.copy()) != image_digest(picture.convert("L"))
    assert image_digest(tmp_path / "none.png") is not None and image_digest(None) is None


def test_notes(tmp_path):
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        cache.note("job 1", "[1]")
        cache.note("job 1", "[2]")
        cache.note("other", "x")
        assert cache.notes("job ") == {"job 1": "[2]"}
        cache.note("job 1", None)
        assert cache.notes("job ") == {}


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text('{"image_id": "1", "caption": "a dog"}\n' * 100)
    with pytest.raises(SourceFormatError, match="cannot be used as a cache"):
        AnswerCache(path)
    with pytest.raises(ConfigurationError, match="is a folder"):
        AnswerCache(tmp_path)
    newer = sqlite3.connect(tmp_path / "newer.sqlite")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(SourceFormatError, match="another version, 99"):
        AnswerCache(tmp_path / "newer.sqlite")


def _fill(path, worker):
    with AnswerCache(path) as cache:
        for number in range(100):
            cache.put(f"shared {number}", Proposal(f"by {worker}"))
            cache.put(f"{worker} {number}", Proposal(f"by {worker}"))


def test_several_processes_write_at_once(tmp_path):
    path = tmp_path / "a.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill, args=(path, worker)) for worker in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    with AnswerCache(path) as cache:
        assert len(cache) == 100 + 3 * 100
        assert all(cache.get([f"{worker} {number}" for worker in range(3) for number in range(100)]))
