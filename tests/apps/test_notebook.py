"""The tour runs from top to bottom, in a kernel of its own, and leaves behind what it shows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "blip_refine_tour.ipynb"


@pytest.mark.slow
def test_the_tour_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("BLIP_REFINE_TOUR_RUN", str(tmp_path / "tour-run"))
    monkeypatch.setenv("BLIP_REFINE_TOUR_SMOKE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Nothing of whoever runs this: no start-up files, no history, no other kernel of the same name.
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    run = tmp_path / "tour-run"
    assert (run / "report" / "index.html").is_file() and (run / "README.md").is_file()
    systems = json.loads((run / "coco_metrics.json").read_text())["systems"]
    assert list(systems) == ["before", "after", "refined"]
    # So little training makes no captions of use (the demonstration's test looks at those), but it does train.
    log = json.loads((run / "trainer_state.json").read_text())["log_history"]
    losses = [row["loss"] for row in log if "loss" in row]
    assert losses[-1] < losses[0] / 1.5
    kept = json.loads((run / "coco_metrics.json").read_text())
    assert len(kept["comparisons"]) == 9 and (run / "error_analysis.json").is_file()


def test_it_is_kept_without_outputs():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    for cell in cells:
        compile("".join(cell["source"]), "cell", "exec")
