from __future__ import annotations

import json

import pytest

from blip_refine.cli.main import main

from ..report.run_folder import make_run


def test_report_of_a_run(tmp_path, capsys):
    run = make_run(tmp_path / "run", images=4)
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(run), "--json"])
    value = json.loads(capsys.readouterr().out)
    assert stopped.value.code == 0
    assert value["report"] == str(run / "report" / "index.html")
    assert str(run / "report" / "loss.png") in value["plots"]


def test_no_run_there(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(tmp_path / "nowhere")])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and "There is no run folder" in printed.err and "Traceback" not in printed.err


def test_metrics_beside_those_of_coco_are_shown(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "starter", "--dataset", "scenes:everyday", "--images", "3", "--metrics", "CIDEr-plain"]
             + ["--max-new-tokens", "5", "--num-beams", "1", "--output", str(tmp_path / "e")])  # fmt: skip
    value = json.loads((tmp_path / "e" / "coco_metrics.json").read_text())["CIDEr-plain"]
    assert stopped.value.code == 0 and f"CIDEr-plain   {value:.3f} [" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / "e")])
    page = (tmp_path / "e" / "report" / "index.html").read_text(encoding="utf-8")
    assert f"CIDEr-plain {value:.3f} on 3 held-out images." in page and (tmp_path / "e/report/scores.png").is_file()
