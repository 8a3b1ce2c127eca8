"""docs/compatibility.md is up to date, and every use of other libraries' private code is declared and guarded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import compatibility
        import private_code

        yield private_code, compatibility
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def f(config):\n    return config._name_or_path", "_name_or_path"),
        ("def f(x):\n    return getattr(x, '_wandb', None)", "_wandb"),
        ("cached_file(a, _raise_exceptions_for_gated_repo=False)", "_raise_exceptions_for_gated_repo"),
        ("load(**dict.fromkeys(('_raise_x', 'b'), False))", "_raise_x"),
        ("load(**{'_commit_hash': None})", "_commit_hash"),
        (
            "from transformers.models.blip.modeling_blip import BlipAttention",
            "transformers.models.blip.modeling_blip.BlipAttention",
        ),
        ("from uvicorn.protocols.http.h11_impl import H11Protocol", "uvicorn.protocols.http.h11_impl.H11Protocol"),
        ("from torch._dynamo import config", "torch._dynamo.config"),
        ("from peft.utils import _get_submodules", "peft.utils._get_submodules"),
        ("import torch._inductor", "torch._inductor"),
        ("def f(module, kind):\n    module.__class__ = kind", "__class__"),
        ("error = HfHubHTTPError.__bases__[0]", "__bases__"),
        ("def f(module):\n    module._old_forward = None", "_old_forward"),
    ],
)
def test_the_search_finds_what_it_is_for(scripts, source, name):
    found = scripts[0].find_uses({"a.py": source, "b.py": "class A:\n    _own = 1"})
    assert {use.name for use in found} == {name}


def test_the_search_leaves_what_is_our_own_or_public(scripts):
    source = (
        "from __future__ import annotations\nfrom transformers import BlipProcessor\nfrom .b import _helper\n"
        "class A:\n    def __init__(self):\n        self._x = __name__\n    def _run(self):\n        return self._x\n"
        "def f(a, named):\n    return a._run(), named._replace(x=1), a.__class__.__name__, {'_': 1}, '_loss'\n"
    )
    assert scripts[0].find_uses({"a.py": source, "b.py": "def _helper(): ..."}) == []


def test_overridden_private_methods_are_found(scripts, monkeypatch):
    """By importing: `CaptionTrainer` inherits the Trainer's, whichever of its mixins overrides them."""
    import blip_refine.training.saving as module

    def _maybe_log_save_evaluate(self):
        """A private method of the Trainer."""

    monkeypatch.setattr(module.SavingTrainer, "_maybe_log_save_evaluate", _maybe_log_save_evaluate, raising=False)
    found = {(use.file, use.name) for use in scripts[0].overrides({"_maybe_log_save_evaluate"})}
    assert ("blip_refine/training/saving.py", "Trainer._maybe_log_save_evaluate") in found
    # What `transformers` keeps on our classes while it runs is in no source of ours.
    assert not list(scripts[0].overrides(set()))


def test_every_private_use_is_declared_and_every_declaration_is_used(scripts):
    private_code, _ = scripts
    undeclared, stale = private_code.compare(private_code.find_uses(), private_code.read_list())
    assert not undeclared, "use what is public, or declare it in docs/private_code.yaml with a contract test"
    assert not stale, "remove it from docs/private_code.yaml, and run: python scripts/compatibility.py"


def test_undeclared_and_stale_uses_are_named(scripts):
    private_code, _ = scripts
    entry = {"library": "x", "names": ["_a", "_b"], "files": ["f.py", "g.py"], "why": "", "guard": ""}
    uses = [private_code.Use("f.py", "_a", 3), private_code.Use("f.py", "_c", 4)]
    undeclared, stale = private_code.compare(uses, [entry])
    assert undeclared == ["f.py:4: _c is private"]
    assert stale == ["_b is declared and used no longer", "g.py is declared for _a, _b and uses none"]


def test_every_named_contract_test_exists(scripts):
    for entry in scripts[0].read_list():
        assert set(entry) == {"library", "names", "files", "why", "guard"} and entry["why"].endswith(".")
        file, _, name = entry["guard"].partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{entry['guard']} guards {entry['names']} and does not exist"


def test_the_page_is_up_to_date():
    done = subprocess.run(
        [sys.executable, "scripts/compatibility.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


RECORD = {
    "environment": "newest",
    "python": "3.13.1",
    "platform": "Linux-6.8.0-secret-host-x86_64-with-glibc2.39",
    "packages": {"torch": "2.13.0", "transformers": "5.24.0"},
}


def test_records_become_columns_and_replace_older_ones(scripts, tmp_path, monkeypatch, capsys):
    _, compatibility = scripts
    monkeypatch.setattr(compatibility, "ROOT", tmp_path)
    monkeypatch.setattr(compatibility, "PAGE", tmp_path / "compatibility.md")
    monkeypatch.setattr(compatibility, "RECORDS", tmp_path / "records.json")
    mac = {"environment": "oldest", "python": "3.10.2", "platform": "macOS-15.1-arm64", "packages": {"torch": "2.4"}}
    for name, changes in {
        "a": {},
        "b": mac,
        "c": {"python": "3.13.2", "packages": {"torch": "2.14.0", "gradio": "6.31.0"}},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**RECORD, **changes}))
        compatibility.main([str(tmp_path / f"{name}.json")])
    text = (tmp_path / "compatibility.md").read_text(encoding="utf-8")
    assert "| package | newest, Python 3.13.2, Linux | oldest, Python 3.10.2, macOS |" in text
    assert "| gradio | 6.31.0 | not installed |" in text and "| torch | 2.14.0 | 2.4 |" in text
    assert "secret-host" not in text + (tmp_path / "records.json").read_text()
    compatibility.main(["--check"])
    (tmp_path / "compatibility.md").write_text("by hand")
    with pytest.raises(SystemExit, match="is not what would be written"):
        compatibility.main(["--check"])


@pytest.mark.parametrize("content", ["{", "[]", '{"environment": "a"}', json.dumps({**RECORD, "packages": {}})])
def test_a_file_that_is_no_record_is_named(scripts, tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(SystemExit, match="x.json is not a record of scripts/versions.py"):
        scripts[1].read_record(tmp_path / "x.json")
