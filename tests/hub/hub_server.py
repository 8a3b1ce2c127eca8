"""A small Hub on loopback: the part of its HTTP protocol that publishing and loading a model uses.

Repositories with branches, commits and pull requests, LFS batches and uploads, the check of a card's metadata, file
and tree listings, tokens, private and gated repositories. It can cut connections half-way through an upload.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

OWNER, TOKEN = "me", "hf_" + "t" * 34
LFS_SUFFIXES = (".safetensors", ".bin", ".png", ".jpg")
LICENSES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "other", "openrail"}
TASKS = {"image-to-text", "image-text-to-text", "text-generation"}
LIBRARIES = {"transformers", "peft"}


@dataclass
class Commit:
    oid: str
    files: dict[str, str]
    """Path to the key of its content in the store."""
    message: str


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    branches: dict[str, list[Commit]] = field(default_factory=dict)
    pull_requests: int = 0

    def find(self, revision: str) -> Commit | None:
        if revision in self.branches:
            return self.branches[revision][-1]
        commits = (commit for branch in self.branches.values() for commit in branch)
        return next((commit for commit in commits if commit.oid == revision), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class HubServer:
    """`with HubServer() as hub:` serves at `hub.url`.

    Attributes:
        uploads (`list[tuple[str, int]]`): Object and number of bytes received of every upload, cut ones included.
        cut_uploads (`int`): So many of the next uploads are cut after `cut_after` bytes.
        refuse_commits (`int`): So many of the next commits are answered with 503.
        requests (`list[str]`): Every request, as "METHOD /path".
    """

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.store: dict[str, bytes] = {}
        self.uploads: list[tuple[str, int]] = []
        self.cut_uploads, self.cut_after, self.refuse_commits = 0, 100_000, 0
        self.requests: list[str] = []
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> HubServer:
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(30)

    def files(self, repo_id: str, revision: str = "main", kind: str = "models") -> dict[str, bytes]:
        """The content of a repository."""
        commit = self.repositories[f"{kind}/{repo_id}"].find(revision)
        return {path: self.store[key] for path, key in commit.files.items()}

    def create(self, key: str, **settings) -> Repository:
        first = Commit(hashlib.sha1(key.encode()).hexdigest(), {}, "initial commit")
        return self.repositories.setdefault(key, Repository(branches={"main": [first]}, **settings))


def card_errors(content: str, kind: str = "model") -> list[str]:
    """What the Hub's metadata check would object to in a card."""
    match = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", content, re.DOTALL)
    if match is None:
        return []
    try:
        data = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"]
    if not isinstance(data, dict):
        return ["The metadata are not a mapping."]
    errors = []
    if kind == "space":
        if data.get("sdk") not in ("gradio", "docker", "static"):
            errors.append('"sdk" must be one of [gradio, docker, static]')
        for name in ("colorFrom", "colorTo"):
            if data.get(name) not in ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"):
                errors.append(f'"{name}" is not a colour of the Hub')
        return errors
    if "license" in data and data["license"] not in LICENSES:
        errors.append(f'"license" must be one of [{", ".join(sorted(LICENSES))}]')
    if "license" in data and data["license"] == "other" and not data.get("license_name"):
        errors.append('"license_name" is needed with "license: other"')
    if data.get("pipeline_tag") not in TASKS:
        errors.append('"pipeline_tag" is not a task')
    if data.get("library_name") not in LIBRARIES:
        errors.append('"library_name" is not known')
    for name in ("language", "base_model", "datasets", "metrics", "tags"):
        for value in data[name] if isinstance(data.get(name), list) else [data.get(name)]:
            if value is not None and (not isinstance(value, str) or not value):
                errors.append(f'"{name}" holds what is no text')
    names = [data.get("base_model"), *(data.get("datasets") or [])]
    errors += [f"{name!r} is no id" for name in names if name and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name))]
    for entry in data.get("model-index") or []:
        for result in entry["results"]:
            for path in (("task", "type"), ("dataset", "type"), ("dataset", "name")):
                if not result.get(path[0], {}).get(path[1]):
                    errors.append(f'"model-index[0].results[0].{".".join(path)}" is required')
            for metric in result.get("metrics") or [{}]:
                if not metric.get("type") or not isinstance(metric.get("value"), (int, float)):
                    errors.append('"model-index": a metric needs a type and a value')
    return errors


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_) -> None:
        pass

    # ---- plumbing ----

    def reply(self, value=None, status: int = 200, headers: dict | None = None, body: bytes | None = None) -> None:
        body = json.dumps({} if value is None else value).encode() if body is None else body
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(text))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fail(self, status: int, message: str, code: str | None = None) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.reply({"error": message}, status, headers)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def user(self) -> str | None:
        return OWNER if self.headers.get("Authorization") == f"Bearer {TOKEN}" else None

    def handle_any(self) -> None:
        split = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {split.path}")
        self.query = parse_qs(split.query)
        for method, pattern, action in ROUTES:
            match = re.fullmatch(pattern, split.path) if self.command in method else None
            if match:
                with self.hub.lock if action is not _Handler.put_object else threading.Lock():
                    action(self, *(unquote(part) if part else part for part in match.groups()))
                return
        self.body()
        self.fail(404, f"no route {split.path}")

    do_GET = do_POST = do_PUT = do_HEAD = handle_any

    def repository(self, key: str, write: bool = False) -> Repository | None:
        found = self.hub.repositories.get(key)
        if found is None or (found.private and not self.user):
            self.fail(404 if self.user else 401, "Repository not found", "RepoNotFound")
            return None
        if found.gated and not write:
            self.fail(403, "Access to this model is restricted", "GatedRepo")
            return None
        if write and not self.user:
            self.fail(401, "Invalid credentials in Authorization header")
            return None
        if write and not key.split("/")[1] == OWNER:
            self.fail(403, "You don't have the rights to write there")
            return None
        return found

    def commit_at(self, found: Repository, revision: str) -> Commit | None:
        commit = found.find(revision)
        if commit is None:
            self.fail(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # ---- the API ----

    def whoami(self) -> None:
        self.reply({"name": OWNER, "type": "user"}) if self.user else self.fail(401, "Invalid credentials")

    def create_repo(self) -> None:
        wanted = json.loads(self.body())
        if not self.user:
            return self.fail(401, "Invalid credentials in Authorization header")
        owner = wanted.get("organization") or OWNER
        if owner != OWNER:
            return self.fail(403, f"You don't have the rights to create a model under {owner}")
        kind = f"{wanted.get('type') or 'model'}s"
        repo_id = f"{owner}/{wanted['name']}"
        prefix = "" if kind == "models" else f"{kind}/"
        exists = f"{kind}/{repo_id}" in self.hub.repositories
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        self.hub.create(f"{kind}/{repo_id}", private=private, sdk=wanted.get("sdk"))
        value = {"url": f"{self.hub.url}/{prefix}{repo_id}", "name": repo_id}
        self.reply(
            value | ({"error": "You already created this model repo"} if exists else {}), 409 if exists else 200
        )

    def validate(self) -> None:
        wanted = json.loads(self.body())
        errors = card_errors(wanted["content"], wanted.get("repoType") or "model")
        self.reply({"errors": [{"message": text} for text in errors], "warnings": []}, 400 if errors else 200)

    def info(self, kind: str, repo_id: str, revision: str | None = None) -> None:
        found = self.repository(f"{kind}/{repo_id}")
        commit = found and self.commit_at(found, revision or "main")
        if commit:
            files = [{"rfilename": path} for path in commit.files]
            self.reply({"id": repo_id, "sha": commit.oid, "siblings": files, "private": found.private, "tags": []})

    def tree(self, kind: str, repo_id: str, revision: str, _path: str | None = None) -> None:
        found = self.repository(f"{kind}/{repo_id}")
        commit = found and self.commit_at(found, revision)
        if commit:
            self.reply([self.entry(path, key) for path, key in commit.files.items()])

    def entry(self, path: str, key: str) -> dict:
        size = len(self.hub.store[key])
        entry = {"type": "file", "path": path, "size": size, "oid": key[:40]}
        return entry | ({"lfs": {"oid": key, "size": size, "pointerSize": 134}} if path.endswith(LFS_SUFFIXES) else {})

    def branch(self, kind: str, repo_id: str, branch: str) -> None:
        self.body()
        found = self.repository(f"{kind}/{repo_id}", write=True)
        if found is None:
            return
        if branch in found.branches:
            return self.fail(409, "Reference already exists")
        found.branches[branch] = list(found.branches["main"])
        self.reply({})

    def preupload(self, kind: str, repo_id: str, revision: str) -> None:
        wanted = json.loads(self.body())
        if self.repository(f"{kind}/{repo_id}", write=True) is None:
            return
        modes = {file["path"]: "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular" for file in wanted["files"]}
        files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
        self.reply({"files": files})

    def lfs_batch(self, prefix: str | None, repo_id: str) -> None:
        wanted = json.loads(self.body())
        if self.repository(f"{prefix or 'models'}/{repo_id}", write=True) is None:
            return
        objects = []
        for item in wanted["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}", "header": {}}}
            actions["verify"] = {"href": f"{self.hub.url}/lfs-verify", "header": {}}
            known = item["oid"] in self.hub.store
            objects.append({"oid": item["oid"], "size": item["size"], **({} if known else {"actions": actions})})
        self.reply({"transfer": "basic", "objects": objects})

    def put_object(self, oid: str) -> None:
        total = int(self.headers["Content-Length"])
        with self.hub.lock:
            cut = self.hub.cut_uploads > 0
            self.hub.cut_uploads -= cut
        content = self.rfile.read(min(total, self.hub.cut_after) if cut else total)
        self.hub.uploads.append((oid, len(content)))
        if cut:
            self.close_connection = True
            self.connection.close()
            return
        if hashlib.sha256(content).hexdigest() != oid:
            return self.fail(400, "the content is not what its name says")
        self.hub.store[oid] = content
        self.reply({}, headers={"ETag": f'"{oid}"'})

    def verify_object(self) -> None:
        wanted = json.loads(self.body())
        held = self.hub.store.get(wanted["oid"])
        if held is None or len(held) != wanted["size"]:
            return self.fail(422, "the object did not arrive")
        self.reply({})

    def commit(self, kind: str, repo_id: str, revision: str) -> None:
        lines = [json.loads(line) for line in self.body().splitlines() if line.strip()]
        found = self.repository(f"{kind}/{repo_id}", write=True)
        parent = found and self.commit_at(found, revision)
        if parent is None:
            return
        if self.hub.refuse_commits > 0:
            self.hub.refuse_commits -= 1
            return self.fail(503, "Service temporarily unavailable")
        files, message = dict(parent.files), ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                content = base64.b64decode(value["content"])
                key = hashlib.sha256(content).hexdigest()
                self.hub.store[key] = content
                files[value["path"]] = key
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.store:
                    return self.fail(400, f"LFS pointer of {value['path']} points to a file that does not exist")
                files[value["path"]] = value["oid"]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = hashlib.sha1(json.dumps([parent.oid, files, message]).encode()).hexdigest()
        commit, pull_request = Commit(oid, files, message), None
        if self.query.get("create_pr") == ["1"]:
            found.pull_requests += 1
            found.branches[f"refs/pr/{found.pull_requests}"] = [*found.branches["main"], commit]
            pull_request = f"{self.hub.url}/{repo_id}/discussions/{found.pull_requests}"
        else:
            found.branches[revision].append(commit)
        prefix = "" if kind == "models" else f"{kind}/"
        url = f"{self.hub.url}/{prefix}{repo_id}/commit/{oid}"
        self.reply({"success": True, "commitOid": oid, "commitUrl": url, "pullRequestUrl": pull_request})

    def resolve(self, prefix: str | None, repo_id: str, revision: str, path: str) -> None:
        found = self.repository(f"{prefix or 'models'}/{repo_id}")
        commit = found and self.commit_at(found, revision)
        if commit is None:
            return
        if path not in commit.files:
            headers = {
                "X-Repo-Commit": commit.oid,
                "X-Error-Code": "EntryNotFound",
                "X-Error-Message": "Entry not found",
            }
            return self.reply({}, 404, headers)
        key = commit.files[path]
        content = self.hub.store[key]
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{key}"', "Content-Type": "application/octet-stream"}
        self.reply(headers=headers, body=content)


_ID = r"([\w.-]+/[\w.-]+)"
_KIND = r"/api/(models|spaces)/"
ROUTES = [
    (("GET",), "/api/whoami-v2", _Handler.whoami),
    (("POST",), "/api/repos/create", _Handler.create_repo),
    (("POST",), "/api/validate-yaml", _Handler.validate),
    (("GET",), _KIND + _ID, _Handler.info),
    (("GET",), _KIND + _ID + "/revision/(.+)", _Handler.info),
    (("GET",), _KIND + _ID + "/tree/([^/]+)(/.*)?", _Handler.tree),
    (("POST",), _KIND + _ID + "/branch/(.+)", _Handler.branch),
    (("POST",), _KIND + _ID + "/preupload/(.+)", _Handler.preupload),
    (("POST",), _KIND + _ID + "/commit/(.+)", _Handler.commit),
    (("POST",), "/(?:(spaces)/)?" + _ID + r"\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (("PUT",), "/lfs/([0-9a-f]{64})", _Handler.put_object),
    (("POST",), "/lfs-verify", _Handler.verify_object),
    (("GET", "HEAD"), "/(?:(spaces)/)?" + _ID + "/resolve/([^/]+)/(.+)", _Handler.resolve),
]
