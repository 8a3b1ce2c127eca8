"""The wheel holds every file that the package needs: templates, the starter, word lists, `py.typed`."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (
    "blip_refine/py.typed",
    "blip_refine/starter/model.safetensors",
    "blip_refine/metrics/coco_objects.json",
    "blip_refine/data/templates/statistics.html",
    "blip_refine/report/templates/report.html",
    "blip_refine/refine/templates/refine.yaml",
    "blip_refine/hub/model_card_template.md",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    wheels = pytest.importorskip("hatchling.builders.wheel")
    folder = tmp_path_factory.mktemp("wheel")
    return Path(next(wheels.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    listed = subprocess.run(["git", "ls-files", "blip_refine"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs to the package is not known")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert [name for name in listed.stdout.splitlines() if (ROOT / name).is_file() and name not in names] == []
    assert [name for name in NEEDED if name not in names] == []
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "examples/"))]


def test_what_is_installed_finds_its_files(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = (
        "import blip_refine, sys\n"
        "from blip_refine.data.prepare import prepare_dataset\n"
        "from blip_refine.data.sources.scenes import load_scenes\n"
        "from blip_refine.metrics.objects import ObjectVocabulary\n"
        "from blip_refine.refine.prompts import built_in_templates\n"
        "prepare_dataset(load_scenes(split='test', count=2), sys.argv[1] + '/out', ratios={'test': 1})\n"
        "assert ObjectVocabulary.coco() and built_in_templates()\n"
        "print(blip_refine.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == str(tmp_path / "blip_refine" / "__init__.py")
    assert (tmp_path / "out" / "index.html").is_file()
