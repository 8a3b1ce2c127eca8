"""Files of captions: resumed, never broken, never mixed up."""

from __future__ import annotations

import pytest

from blip_refine.caption_files import CaptionFile
from blip_refine.errors import ConfigurationError, SourceFormatError
from blip_refine.jsonlines import read_jsonl

SETTINGS = {"model": "starter", "beams": 5}


def row(name: str, caption: str = "a dog", content: str = "c", **others):
    return {"image_id": name, "caption": caption, "draft": caption, "content": content, **others}


def read(path):
    with CaptionFile(path, SETTINGS, "append") as file:
        return list(read_jsonl(file._journal))


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_rows_survive_any_format_and_a_second_run_knows_them(tmp_path, ending):
    path = tmp_path / f"captions.{ending}"
    rows = [
        row("ä/1.jpg", 'says "hi", twice\u2028', candidates=["a", "b, c"], confidence=-0.25, refined=True),
        row("2.jpg", "", error="cannot be read", refined=False),
        row("3.jpg", "", content="d", review="says a blocked word", refined=False, image_gain=1.5),
    ]
    with CaptionFile(path, SETTINGS) as file:
        file.write(rows[:2])
        file.write(rows[2:])
    assert [{name: value for name, value in one.items() if name != "settings"} for one in read(path)] == rows
    with CaptionFile(path, SETTINGS) as file:
        assert file.held == 3
        assert file.is_done("ä/1.jpg", "c") and file.is_done("3.jpg", "d")
        assert not file.is_done("ä/1.jpg", "changed") and not file.is_done("2.jpg", "c")
        file.write([row("2.jpg", "a cat")])
    assert [one["image_id"] for one in read(path)] == ["ä/1.jpg", "3.jpg", "2.jpg"], "failed rows are replaced"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name], "nothing is left beside it"


def test_a_broken_end_is_cut_off_and_a_broken_middle_is_named(tmp_path):
    path = tmp_path / "captions.jsonl"
    with CaptionFile(path, SETTINGS) as file:
        file.write([row("1"), row("2")])
    whole = path.read_bytes()
    for cut in range(len(whole) // 2, len(whole), 7):
        path.write_bytes(whole[:cut])
        with CaptionFile(path, SETTINGS) as file:
            assert file.is_done("1", "c") is (b"\n" in whole[:cut])
            assert not file.is_done("2", "c")
        assert path.read_bytes() in (b"", whole[: whole.index(b"\n") + 1])
    path.write_bytes(b'{"image_id": "1"\n' + whole)
    with pytest.raises(SourceFormatError, match="line 1"):
        CaptionFile(path, SETTINGS)


def test_rows_of_other_settings_are_neither_mixed_nor_lost_unasked(tmp_path):
    path = tmp_path / "captions.jsonl"
    with CaptionFile(path, SETTINGS) as file:
        file.write([row("1", "old")])
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="with other settings"):
        CaptionFile(path, {"model": "other"})
    assert path.read_bytes() == before
    with CaptionFile(path, {"model": "other"}, "append") as file:
        assert not file.is_done("1", "c")
        file.write([row("1", "new")])
    assert [one["caption"] for one in read_jsonl(path)] == ["old", "new"]
    with CaptionFile(path, SETTINGS, "overwrite") as file:
        file.write([row("3")])
    assert [one["image_id"] for one in read_jsonl(path)] == ["3"]
    path.write_text('{"image_id": "1", "caption": "by hand"}\n')
    with pytest.raises(ConfigurationError, match="by something else"):
        CaptionFile(path, SETTINGS)


def test_two_runs_cannot_write_one_file(tmp_path):
    pytest.importorskip("fcntl")
    with CaptionFile(tmp_path / "captions.jsonl", SETTINGS):
        with pytest.raises(ConfigurationError, match="Another process is writing"):
            CaptionFile(tmp_path / "captions.jsonl", SETTINGS)


def test_wrong_places_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="by the name's ending"):
        CaptionFile(tmp_path / "captions.txt", SETTINGS)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        CaptionFile(tmp_path / "folder.jsonl", SETTINGS)
    (tmp_path / "own.csv").write_text("image_id,caption,price\n1,a dog,3\n")
    with pytest.raises(ConfigurationError, match="'price' that would be lost"):
        CaptionFile(tmp_path / "own.csv", SETTINGS, "append")
    assert "price" in (tmp_path / "own.csv").read_text()
