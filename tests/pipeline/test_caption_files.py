"""Files of captions: resumed, never broken, never mixed up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from blip_refine.caption_files import CaptionFile, check_output, has_captions, read_captions
from blip_refine.errors import ConfigurationError, DataError, SourceFormatError, SourceNotFoundError
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


@contextmanager
def room_for(size: int):
    """A disk that takes files of so many bytes."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.posix
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_full_disk_leaves_whole_rows_and_says_so(tmp_path, ending):
    path = tmp_path / f"captions.{ending}"
    journal = tmp_path / (path.name if ending == "jsonl" else f".{path.name}.rows.jsonl")
    with room_for(2000), pytest.raises(DataError, match="cannot be written: File too large.*goes on from there"):
        with CaptionFile(path, SETTINGS) as file:
            for number in range(100):
                file.write([row(f"{number}.jpg"), row(f"{number}.png")])
    held = list(read_captions(path))
    assert 4 <= len(held) < 30 and len(held) % 2 == 0
    if ending != "csv":  # which fits where its rows did not
        assert list(read_jsonl(journal)) == held and journal.read_bytes().endswith(b"\n")
    with CaptionFile(path, SETTINGS) as file:
        assert file.held == len(held) and file.is_done("0.png", "c")
        file.write([row("last.jpg")])
    assert [one["image_id"] for one in read_captions(path)] == [*(one["image_id"] for one in held), "last.jpg"]
    # A table that cannot be brought back as rows, all of it, is left as it is.
    before = path.read_bytes()
    if ending != "jsonl":
        with room_for(500), pytest.raises(DataError, match="cannot be written"):
            CaptionFile(path, SETTINGS)
        assert path.read_bytes() == before and (not journal.exists() or journal.stat().st_size == 0)
        with CaptionFile(path, SETTINGS) as file:
            assert file.held == len(held) + 1


def test_nothing_of_a_file_that_is_not_ours_is_changed(tmp_path):
    path = tmp_path / "captions.jsonl"
    for text in (
        '{"image_id": "1", "caption": "by hand"}',
        '{"image_id": "1", "caption": "a"}\n{"image_id": "2", "ca',
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match="by something else"):
            CaptionFile(path, SETTINGS)
        assert path.read_text() == text
    # A last row that an editor left without its line end is a row.
    path.write_text('{"image_id": "1", "caption": "by hand"}')
    with CaptionFile(path, SETTINGS, "append") as file:
        file.write([row("2")])
    assert [one["caption"] for one in read_jsonl(path)] == ["by hand", "a dog"]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_link_is_followed_and_stays_one(tmp_path, ending):
    link = tmp_path / f"link.{ending}"
    link.symlink_to(tmp_path / "far" / f"captions.{ending}")
    for content in ("c", "d"):
        check_output(link)
        with CaptionFile(link, SETTINGS) as file:
            file.write([row("1.jpg", content=content)])
    assert link.is_symlink() and [one["content"] for one in read_captions(link)] == ["d"]
    assert [entry.name for entry in (tmp_path / "far").iterdir()] == [f"captions.{ending}"]


def test_odd_texts_come_back_from_a_table(tmp_path):
    path = tmp_path / "captions.csv"
    names = ["a\rb.jpg", "new\nline.jpg", 'quo"te, comma.jpg', " space ", "=1+1"]
    with CaptionFile(path, SETTINGS) as file:
        file.write([row(name, caption=name) for name in names])
        file.write([row("half", caption="half of a pair \ud83d")])
    assert b"\r\n" not in path.read_bytes()
    found = list(read_captions(path))
    assert [one["image_id"] for one in found] == [one["caption"] for one in found[:-1]] + ["half"] == [*names, "half"]
    with CaptionFile(path, SETTINGS) as file:
        assert all(file.is_done(name, "c") for name in names)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"image_id,caption\n1.jpg\n", "line 2: there are fewer cells"),
        ("a.csv", b"image_id,caption\n1.jpg,a,b\n", "line 2: there are more cells"),
        ("a.csv", b"image_id,caption\n1.jpg,\xff\n", "no CSV file that can be read"),
        ("a.parquet", b"PAR1 no", "no Parquet file that can be read"),
    ],
)
def test_broken_tables_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceFormatError, match=message):
        CaptionFile(tmp_path / name, SETTINGS)
    assert (tmp_path / name).read_bytes() == content


def test_the_lock_of_a_killed_run_holds_nobody_up(tmp_path):
    path = tmp_path / "captions.jsonl"
    script = (
        "import os, sys\n"
        "from blip_refine.caption_files import CaptionFile\n"
        f"file = CaptionFile(sys.argv[1], {SETTINGS!r})\n"
        f"file.write([{row('1')!r}])\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == 9
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".captions.jsonl.lock", path.name]
    with CaptionFile(path, SETTINGS) as file:
        file.write([row("2")])
    assert [one["image_id"] for one in read_jsonl(path)] == ["1", "2"]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_captions_are_remembered_where_that_is_wanted_and_names_are_known(tmp_path):
    path = tmp_path / "captions.jsonl"
    with CaptionFile(path, SETTINGS) as file:
        file.write([row("1", "a dog"), row("2", "", error="cannot be read")])
    with CaptionFile(path, SETTINGS, remember=True) as file:
        assert (file.caption_of("1"), file.caption_of("2")) == ("a dog", None)
        assert file.has("1") and not file.has("2") and not file.has("3")
    with CaptionFile(path, {"model": "other"}, "append", remember=True) as file:
        assert file.caption_of("1") == "a dog" and not file.has("1")


def test_what_a_killed_run_left_is_read_and_cleared_away(tmp_path):
    path = tmp_path / "captions.csv"
    assert not has_captions(path)
    with pytest.raises(SourceNotFoundError):
        read_captions(path)
    journal = tmp_path / ".captions.csv.rows.jsonl"
    with CaptionFile(journal, SETTINGS) as file:  # rows as a killed run leaves them
        file.write([row("1"), row("2")])
    with journal.open("ab") as file:
        file.write(b'{"image_id": "3", "capt')
    (tmp_path / ".captions.csv.abc.part").write_bytes(b"half a table")
    (tmp_path / ".other.csv.abc.part").write_bytes(b"of another run")
    assert has_captions(path) and [one["image_id"] for one in read_captions(path)] == ["1", "2"]
    with CaptionFile(path, SETTINGS) as file:
        assert file.held == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".other.csv.abc.part", "captions.csv"]


def test_places_that_cannot_be_written_are_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "captions.jsonl", "/proc/nowhere/captions.csv"):
        with pytest.raises(ConfigurationError, match="cannot be written"):
            check_output(place)


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be removed there")
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_file_that_is_removed_meanwhile_is_noticed(tmp_path, ending):
    path = tmp_path / f"captions.{ending}"
    with pytest.raises(DataError, match="was removed while captions were written"):
        with CaptionFile(path, SETTINGS) as file:
            file.write([row("1")])
            file._journal.unlink()
            file.write([row("2")])
