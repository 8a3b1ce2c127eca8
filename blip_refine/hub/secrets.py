"""What must not be uploaded: secrets, and paths of the machine that the files come from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError

SECRET_FORMS = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}",
    "an OpenAI or Anthropic key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})",
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a Google API key": r"\bAIza[A-Za-z0-9_-]{35}",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a Weights & Biases key": r"(?i)\bwandb[\w\"': =-]{0,24}\b[0-9a-f]{40}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"']+:[^\s/@\"']+@",
    "a bearer token": r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{20,}",
}
"""What secrets look like. The second guard is the values themselves, from the environment."""

_SECRET_NAMES = re.compile(r"(?i)(token|secret|passw|api_?key|access_?key|credential)")
_SECRET_FIELDS = re.compile(
    r"(?i)^(?:hub_|hf_|auth_|access_|api_|secret_)*(?:token|key|secret|password|credential)s?$"
)
_LOCAL_PATH = re.compile(
    r"(?<![\w.:/\\~-])(?:/(?:home|Users|root|tmp|var|mnt|media|opt|srv|data|scratch|work|workspace|private|content|kaggle)"
    r"/[^\s\"'`<>|,;)]+|[A-Za-z]:\\{1,2}[^\s\"'`<>|]+|\\\\\\\\[^\s\"'`<>|]+|~/[^\s\"'`<>|]+|file://[^\s\"'`<>|]+)"
)
_TEXT_SUFFIXES = {".json", ".jsonl", ".md", ".txt", ".yaml", ".yml", ".py", ".toml", ".cfg", ".html", ".csv"}
_VOCABULARIES = {"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"}
"""Files whose strings are pieces of words; some of those look like paths."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be uploaded. The secret itself is not kept.

    Args:
        file (`str`): The file, relative to the folder.
        line (`int`, *optional*): The line; `None` in the header of a weights file.
        what (`str`): What was found; a path is quoted, a secret never.
        secret (`bool`): Whether it is a secret; otherwise it is a path.
    """

    file: str
    line: int | None
    what: str
    secret: bool

    def __str__(self) -> str:
        return f"{self.file}{f', line {self.line}' if self.line else ''}: {self.what}"


def find_secrets(folder: Path, files: Iterable[str], environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Search files for secrets and for paths of this machine.

    Args:
        folder (`Path`): The folder that is to be uploaded.
        files (`Iterable[str]`): Its files, relative.
        environment (`Mapping[str, str]`, *optional*): Whose values are secret where their names say so; by default
            this process's environment and the saved Hub token.
    """
    known = secret_values(environment)
    found: list[Finding] = []
    for name in files:
        for line, text in _lines(folder / name):
            found.extend(_findings(name, line, text, known))
    return found


def refuse_secrets(folder: Path, files: Iterable[str]) -> None:
    """Refuse a folder with secrets or local paths in it.

    Raises:
        ConfigurationError: There are some; each is named by file and line, and no secret is repeated.
    """
    found = find_secrets(folder, files)
    if not found:
        return
    shown = "; ".join(str(finding) for finding in found[:8]) + ("; ..." if len(found) > 8 else "")
    advice = (
        "Take it out of the run folder, and revoke a secret that was ever written to a file"
        if any(finding.secret for finding in found)
        else "Take the path out of that file: nobody else has it"
    )
    raise ConfigurationError(f"Nothing was uploaded, because these files would tell too much: {shown}. {advice}.")


def secret_values(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Values that are secret because of where they are kept: value to the name of that place."""
    variables = os.environ if environment is None else environment
    known = {
        value: f"the value of {name}"
        for name, value in variables.items()
        if _SECRET_NAMES.search(name) and len(value) >= 12 and not os.path.exists(value)
    }
    if environment is None:
        from huggingface_hub import get_token

        token = get_token()
        if token:
            known[token] = "your Hub token"
    return known


def _lines(path: Path) -> Iterator[tuple[int | None, str]]:
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            yield None, json.dumps(file.metadata() or {})
    elif path.suffix in _TEXT_SUFFIXES or path.name in _VOCABULARIES:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from enumerate(file, 1)


def _findings(name: str, line: int | None, text: str, known: Mapping[str, str]) -> Iterator[Finding]:
    for value, place in known.items():
        if value in text:
            yield Finding(name, line, place, True)
    for what, form in SECRET_FORMS.items():
        if re.search(form, text):
            yield Finding(name, line, what, True)
    if Path(name).name in _VOCABULARIES:
        return
    field = _secret_field(text)
    if field:
        yield Finding(name, line, f"a value in the field {field!r}", True)
    for match in _LOCAL_PATH.finditer(text):
        yield Finding(name, line, f"the local path {match[0]!r}", False)


_FIELD = re.compile(r'^\s*"(?P<name>[^"]+)"\s*:\s*"(?P<value>[^"]+)"\s*,?\s*$')


def _secret_field(text: str) -> str | None:
    """The name of a JSON field that by its name holds a secret, as in `"hub_token": "..."`."""
    match = _FIELD.match(text)
    if match is None or not _SECRET_FIELDS.match(match["name"]):
        return None
    # Fields of tokenizers are called "..._token" and hold "[PAD]" or "<s>".
    return match["name"] if len(match["value"]) >= 12 and not re.fullmatch(r"[\[<].*[\]>]", match["value"]) else None


def scrub(value: Any, path_fields: Iterable[str]) -> Any:
    """A JSON value in which the named fields do not tell a path: the last part of it stays.

    Args:
        value (`Any`): The content of a JSON file.
        path_fields (`Iterable[str]`): Fields that by their nature hold a name or a path, such as "base_model".
    """
    from .provenance import is_local_path, public_name

    fields = set(path_fields)
    if isinstance(value, Mapping):
        return {
            name: public_name(part)
            if name in fields and isinstance(part, str) and (is_local_path(part))
            else scrub(part, fields)
            for name, part in value.items()
        }
    return [scrub(part, fields) for part in value] if isinstance(value, list) else value
