"""The package runs where POSIX is not, by static checks: its tests run on one system at a time."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "blip_refine"

POSIX_MODULES = set("crypt fcntl grp nis posix pty pwd readline resource syslog termios tty".split())
"""Modules of the standard library that Windows lacks."""

POSIX_NAMES = {
    "os": "chown chroot confstr ctermid fchdir fchown fdatasync fork forkpty fpathconf getegid geteuid getgid "
    "getgroups getloadavg getpgid getpgrp getpriority getresuid getsid getuid initgroups killpg lchown "
    "major makedev minor mkfifo mknod nice openpty pathconf pidfd_open posix_fadvise posix_fallocate "
    "pread preadv pwrite pwritev register_at_fork sched_getaffinity sched_setaffinity sched_yield "
    "sendfile setegid seteuid setgid setgroups setpgid setpriority setsid setuid statvfs fstatvfs sync "
    "sysconf tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid WNOHANG WUNTRACED WIFEXITED "
    "WEXITSTATUS WIFSIGNALED WTERMSIG O_ASYNC O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_NOATIME O_NOCTTY "
    "O_NOFOLLOW O_NONBLOCK O_PATH O_SYNC O_TMPFILE",
    "signal": "SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGTTIN SIGTTOU "
    "SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ alarm getitimer pause pthread_kill "
    "pthread_sigmask set_wakeup_signal setitimer siginterrupt sigpending sigtimedwait sigwait sigwaitinfo",
    "socket": "AF_UNIX SO_REUSEPORT AF_NETLINK AF_PACKET SCM_RIGHTS send_fds recv_fds",
    "time": "clock_settime pthread_getcpuclockid tzset",
    "select": "poll epoll kqueue",
}
"""Names that Windows lacks in modules that it has."""

GUARDS = ("hasattr", "getattr", "sys.platform", "os.name", "platform.system")
FORBIDDEN = set('<>:"|?*\\') | {chr(code) for code in range(32)}


def faults(source: str) -> Iterator[str]:
    """What of a module cannot run on Windows, unless a test of the system or of the name stands around it."""

    def visit(node: ast.AST, guarded: bool) -> Iterator[str]:
        if isinstance(node, ast.If | ast.IfExp):
            guarded = guarded or any(guard in ast.unparse(node.test) for guard in GUARDS)
        if isinstance(node, ast.Try):
            caught = {ast.unparse(handler.type) for handler in node.handlers if handler.type}
            safe = guarded or any("ImportError" in name or "AttributeError" in name for name in caught)
            for child in node.body:
                yield from visit(child, safe)
            # After an import that failed in a `try`, the names of the module are used only where it was found: what
            # follows in the same function is looked at with the others.
            for child in (*node.handlers, *node.orelse, *node.finalbody):
                yield from visit(child, guarded)
            return
        if not guarded:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
                lacking = POSIX_NAMES.get(node.module or "", "").split()
                yield from (f"{node.lineno}: {node.module}.{a.name}" for a in node.names if a.name in lacking)
            yield from (f"{node.lineno}: import {name}" for name in names if name.split(".")[0] in POSIX_MODULES)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.attr in POSIX_NAMES.get(node.value.id, "").split():
                    yield f"{node.lineno}: {node.value.id}.{node.attr}"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if node.value.startswith(("/tmp", "/proc/", "/dev/", "/etc/", "/var/")):
                    yield f"{node.lineno}: {node.value!r}"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, guarded)

    yield from visit(ast.parse(source), False)


@pytest.mark.parametrize(
    "source",
    [
        "import resource",
        "def f():\n    import fcntl",
        "from pwd import getpwuid",
        "from os import fork",
        "import os\ndef f():\n    return os.sysconf('SC_PAGE_SIZE')",
        "import signal\nsignal.signal(signal.SIGHUP, print)",
        "import os\ntry:\n    os.getuid()\nexcept ValueError:\n    pass",
        "path = '/tmp/x'",
        "if True:\n    import tty",
    ],
)
def test_the_check_finds_what_it_is_for(source):
    assert len(list(faults(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import resource\nexcept ImportError:\n    resource = None",
        "import os\nif hasattr(os, 'fork'):\n    os.fork()",
        "import os, sys\nif sys.platform != 'win32':\n    os.getuid()",
        "import signal\nsignal.signal(signal.SIGTERM, print)",
        "import os\nos.replace('a', 'b')",
    ],
)
def test_the_check_lets_pass_what_is_portable(source):
    assert not list(faults(source))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_of_posix_is_used_unguarded(path):
    assert not list(faults(path.read_text(encoding="utf-8")))


def test_every_module_imports_without_the_modules_of_posix():
    """For our own imports alone: on this system other libraries may use what there is."""
    script = f"""
import builtins, importlib, pkgutil, sys
real = builtins.__import__

def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    if (globals or {{}}).get("__name__", "").startswith("blip_refine") and name.split(".")[0] in {POSIX_MODULES!r}:
        raise ModuleNotFoundError(f"No module named {{name!r}}")
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = guarded
import blip_refine
names = [one.name for one in pkgutil.walk_packages(blip_refine.__path__, "blip_refine.")]
for name in names:
    if name != "blip_refine.__main__":
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in {POSIX_MODULES!r}:
                raise
            if error.name not in {sorted(OPTIONAL)!r}:
                raise
print(len(names))
from blip_refine.training import memory
from blip_refine.metrics import spice
assert memory.total_memory() > 2**28 and 2 <= spice._memory_gb() <= 8
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 150


OPTIONAL = ("gradio", "fastapi", "uvicorn", "starlette")
"""Extras that a module may import at its top. Whether they are installed is not what is tested."""


def test_the_peak_of_memory_is_known_without_resource(monkeypatch):
    from blip_refine.training import memory

    monkeypatch.setattr(memory.torch.cuda, "is_available", lambda: False)
    assert 2**26 < memory.peak_memory() < memory.total_memory()
    monkeypatch.setitem(sys.modules, "resource", None)  # an import of it fails
    windows = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=12345))
    monkeypatch.setattr(memory.psutil, "Process", lambda: windows)
    assert memory.peak_memory() == 12345


@pytest.mark.posix
def test_scripts_find_the_environment_of_windows(tmp_path):
    """`scripts/environment.sh` with a Python whose environments have `Scripts`, as those of Windows."""
    root, calls = tmp_path / "clone", tmp_path / "calls"
    for name in ("scripts/environment.sh", "scripts/demo.sh"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    for path in (ROOT / "scripts").glob("*.txt"):
        (root / "scripts" / path.name).write_bytes(path.read_bytes())
    (root / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {calls}\n'
        'if [ "$2" = venv ]; then mkdir -p "$3/Scripts"; '
        'for name in python python.exe blip-refine; do cp "$0" "$3/Scripts/$name"; done; fi\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(program), "BLIP_REFINE_VENV": str(tmp_path / "venv")}
    done = subprocess.run(
        ["sh", "scripts/demo.sh", "--dry"], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = calls.read_text(encoding="utf-8")
    assert "-m pip install" in said and said.splitlines()[-1] == "demo --output run --dry"


def test_modules_of_tests_import_without_posix():
    """A test may need POSIX (`@pytest.mark.posix`); a file of tests that cannot be imported is an error on Windows."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                node.body = [ast.Pass()]
        assert not [fault for fault in faults(ast.unparse(tree)) if "'/" not in fault], path


def test_names_of_files_are_valid_everywhere():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs to the repository is not known")
    names = listed.stdout.splitlines()
    assert len({name.lower() for name in names}) == len(names), "two names that differ in case alone"
    for name in names:
        assert not FORBIDDEN & set(name), name
        # Windows strips dots and spaces from ends; 260 characters are its limit, the checkout's own place included.
        assert all(part == part.rstrip(". ") for part in name.split("/")) and len(name) < 160, name
        assert not PureWindowsPath(name).is_reserved(), name
