"""Folders and patterns as they are on real disks: links that lead back, pipes, folders that are closed to us."""

from __future__ import annotations

import glob
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from blip_refine.data.image_search import IMAGE_SUFFIXES, UnsearchableFolder, files_in, files_like
from blip_refine.errors import SourceNotFoundError

NOBODY = 65534


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for folder in ("a/b/c", "a/b2", "z", "a/.hidden", "br[1]/q"):
        os.makedirs(folder)
    for folder in (".", "a", "a/b", "a/b/c", "a/b2", "z", "a/.hidden", "br[1]", "br[1]/q"):
        for name in ("x.jpg", "y.PNG", ".h.jpg", "n.txt"):
            Path(folder, name).touch()
    return tmp_path


@contextmanager
def closed(folder: str):
    """A folder that this process may not list; root may list any, and becomes nobody for a while."""
    mode = os.stat(folder).st_mode
    os.chmod(folder, 0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        os.chmod(folder, mode)


@pytest.mark.parametrize(
    "pattern",
    ["**/*.jpg", "a/**/*.jpg", "./**/*.jpg", "**", "a/**", "**/c/*", "a/**/c/**/*.PNG", "*/**/*.jpg", "a*/**/x.jpg"]
    + ["z/**/**/*.jpg", "**/b*/x.jpg", "br[[]1]/**/*.jpg", "**/**", "a//**//*.jpg", "a/**/../x.jpg", "{}/**/*.jpg"]
    + ["*.txt", "[ab]/*", "**/*.gif", "nowhere/**/*.jpg"],
)
def test_patterns_mean_what_glob_means(tree, pattern):
    pattern = pattern.format(tree)
    expected = sorted(path for path in set(glob.glob(pattern, recursive=True)) if os.path.isfile(path))
    if not Path(pattern).suffix:
        expected = [path for path in expected if Path(path).suffix.lower() in IMAGE_SUFFIXES]
    if expected:
        assert list(files_like(pattern)) == expected
    else:
        with pytest.raises(SourceNotFoundError, match="No file fits"):
            list(files_like(pattern))


@pytest.mark.posix
def test_links_that_lead_back_give_each_file_once(tree):
    expected = list(files_in("a"))
    assert expected == ["a/x.jpg", "a/y.PNG", "a/b/x.jpg", "a/b/y.PNG", "a/b/c/x.jpg", "a/b/c/y.PNG"] + [
        "a/b2/x.jpg",
        "a/b2/y.PNG",
    ]
    for number in range(4):  # glob would find 4 ** 40 paths
        os.symlink("..", f"a/b/loop{number}")
    assert list(files_in("a")) == expected
    assert list(files_like("a/**/*.jpg")) == sorted(path for path in expected if path.endswith("jpg"))


@pytest.mark.posix
def test_only_files_and_links_to_them_are_read(tree):
    os.mkdir("z/album.jpg")
    os.mkfifo("z/pipe.jpg")
    os.symlink("pipe.jpg", "z/link to a pipe.jpg")
    os.symlink("album.jpg", "z/link to a folder.jpg")
    os.symlink("x.jpg", "z/link.jpg")
    os.symlink("nowhere.jpg", "z/dangling.jpg")
    assert list(files_in("z")) == ["z/dangling.jpg", "z/link.jpg", "z/x.jpg", "z/y.PNG"]


@pytest.mark.posix
def test_a_folder_that_cannot_be_searched_is_told_and_the_others_are_searched(tree):
    tree.chmod(0o755)
    with closed("a/b"):
        for found in (list(files_in("a")), list(files_like("a/**/*.jpg"))):
            errors = [one for one in found if isinstance(one, UnsearchableFolder)]
            assert [str(one) for one in errors] == ["The folder 'a/b' cannot be searched: Permission denied."]
            assert {"a/x.jpg", "a/b2/x.jpg"} <= set(found) - set(errors)
    with closed("z"):
        assert [str(one) for one in files_in("z")] == ["The folder 'z' cannot be searched: Permission denied."]


def test_an_empty_folder_is_named(tree):
    os.mkdir("empty")
    with pytest.raises(SourceNotFoundError, match="no image in the folder 'empty'"):
        list(files_in("empty"))
