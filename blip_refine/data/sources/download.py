"""Download the images of a list of URLs: many at a time, few from one host, resumable, with a reason for a failure."""

from __future__ import annotations

import hashlib
import heapq
import io
import itertools
import json
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from PIL import Image

from ...errors import ConfigurationError, SourceFormatError
from ...jsonlines import atomic_write, dump_row
from ..http import FetchError
from .http_fetch import FetchLimits, fetch_image

LOG_FILE = "downloads.jsonl"
IMAGE_FOLDER = "images"
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "AVIF": "avif", "BMP": "bmp"}
_LOOKAHEAD = 64
"""Rows that wait for their host, for each download that may run: enough to find another host to ask meanwhile."""


@dataclass(slots=True)
class DownloadReport:
    """What became of a download.

    Args:
        downloaded (`int`): Images that were fetched now.
        resumed (`int`): Rows that an earlier run had settled.
        bytes (`int`): Bytes of the images fetched now.
        failures (`dict[str, int]`): How many rows failed now, by reason.
    """

    downloaded: int = 0
    resumed: int = 0
    bytes: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many rows failed now."""
        return sum(self.failures.values())


@dataclass(slots=True)
class _Job:
    url: str
    caption: str
    host: str
    attempts: int = 0


def download_images(
    rows: Iterable[tuple[str, str]],
    output: str | Path,
    *,
    limits: FetchLimits | None = None,
    concurrency: int = 16,
    per_host: int = 2,
    retries: int = 2,
    max_wait: float = 60.0,
    retry_failed: bool = True,
    progress: Callable[[int], object] | None = None,
) -> DownloadReport:
    """Fetch images into a folder. Stopped at any time, it goes on where it was when it is called again.

    The folder holds `images/ab/abcd....jpg`, named by the SHA-256 of their content, and `downloads.jsonl`: a row for
    each row of the list, with its `url`, `caption` and either `file` or `failed`, `detail` and `transient`.

    Args:
        rows (`Iterable[tuple[str, str]]`): URL and caption; read as needed, so it may be long.
        output (`str` or `Path`): The folder.
        limits (`FetchLimits`, *optional*): Time, size, name, and whether private addresses may be fetched from.
        concurrency (`int`, defaults to 16): Images at a time.
        per_host (`int`, defaults to 2): Images at a time from one host.
        retries (`int`, defaults to 2): Further tries after a failure that may pass, after 1, 2, 4 ... seconds or as
            long as the server asks.
        max_wait (`float`, defaults to 60): The longest that one row is waited for before a try, in seconds; a server
            that asks for more is left alone in this run.
        retry_failed (`bool`, defaults to `True`): Whether rows that failed in an earlier run for a reason that may
            pass are tried again.
        progress (`Callable[[int], object]`, *optional*): Called with 1 for each row that is settled.

    Returns:
        `DownloadReport`: Counts.

    Raises:
        ConfigurationError: A number that cannot be.
    """
    if min(concurrency, per_host) < 1 or retries < 0 or max_wait < 0:
        raise ConfigurationError("concurrency and per_host must be at least 1, retries and max_wait at least 0.")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    limits = limits or FetchLimits()

    def is_settled(row: dict[str, Any]) -> bool:
        if row.get("failed") == "private address":
            return not limits.allow_private
        return "file" in row or not (retry_failed and row.get("transient"))

    settled = {(row["url"], row["caption"]) for row in read_log(output) if is_settled(row)}
    report = DownloadReport()

    def open_rows() -> Iterator[_Job]:
        for url, caption in rows:
            if (url, caption) in settled:
                report.resumed += 1
                if progress is not None:
                    progress(1)
            else:
                settled.add((url, caption))
                yield _Job(url, caption, _host(url))

    with (output / LOG_FILE).open("a", encoding="utf-8", newline="\n") as log:
        run = _Run(output, log, limits, per_host, retries, max_wait, report, progress)
        run.all(open_rows(), concurrency)
    return report


def read_log(output: Path) -> list[dict[str, Any]]:
    """The rows of a download's log, the last one for each URL and caption. A last line that was cut off by a crash is
    taken away from the file.

    Raises:
        SourceFormatError: The log is broken elsewhere than at its end.
    """
    path = output / LOG_FILE
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for number, line in enumerate(io.BytesIO(whole), 1):
        try:
            row = json.loads(line)
            rows[row["url"], row["caption"]] = row
        except (ValueError, KeyError, TypeError) as error:
            raise SourceFormatError(f"{path}, line {number}: not a row of a download log ({error}).") from error
    return list(rows.values())


class _Run:
    """One run of the downloader; all but `_fetch` happens in the caller's thread."""

    def __init__(
        self,
        output: Path,
        log: IO[str],
        limits: FetchLimits,
        per_host: int,
        retries: int,
        max_wait: float,
        report: DownloadReport,
        progress: Callable[[int], object] | None,
    ):
        self.output, self.log, self.limits, self.per_host = output, log, limits, per_host
        self.retries, self.max_wait, self.report, self.progress = retries, max_wait, report, progress
        self.busy: dict[str, int] = {}
        self.not_before: dict[str, float] = {}
        self.waiting: deque[_Job] = deque()
        self.delayed: list[tuple[float, int, _Job]] = []
        self.numbers = itertools.count()

    def all(self, jobs: Iterator[_Job], concurrency: int) -> None:
        running: dict[Future, _Job] = {}
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="download")
        try:
            while True:
                while len(running) < concurrency and (job := self._next(jobs, concurrency)) is not None:
                    self.busy[job.host] = self.busy.get(job.host, 0) + 1
                    running[pool.submit(self._fetch, job)] = job
                if running:
                    done, _ = wait(running, timeout=self._pause(), return_when=FIRST_COMPLETED)
                    for future in done:
                        self._settle(running.pop(future), future)
                elif self.delayed or self.waiting:
                    time.sleep(max(0.0, self._pause() or 0.0))
                else:
                    return
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _next(self, jobs: Iterator[_Job], concurrency: int) -> _Job | None:
        """A job that may start now, or none."""
        now = time.monotonic()
        while self.delayed and self.delayed[0][0] <= now:
            self.waiting.appendleft(heapq.heappop(self.delayed)[2])
        for place, job in enumerate(self.waiting):
            if self._may_start(job, now):
                del self.waiting[place]
                return job
        while len(self.waiting) < _LOOKAHEAD * concurrency:
            fresh = next(jobs, None)
            if fresh is None:
                return None
            if self._may_start(fresh, now):
                return fresh
            self.waiting.append(fresh)
        return None

    def _may_start(self, job: _Job, now: float) -> bool:
        return self.busy.get(job.host, 0) < self.per_host and self.not_before.get(job.host, 0.0) <= now

    def _pause(self) -> float | None:
        """Seconds until something may start that may not start now."""
        times = [self.delayed[0][0]] if self.delayed else []
        times += [self.not_before[job.host] for job in self.waiting if job.host in self.not_before]
        now = time.monotonic()
        later = [moment for moment in times if moment > now]
        return min(later) - now if later else (0.05 if times else None)

    def _fetch(self, job: _Job) -> tuple[str, int]:
        data = fetch_image(job.url, self.limits)
        digest = hashlib.sha256(data).hexdigest()
        with Image.open(io.BytesIO(data)) as opened:
            extension = _EXTENSIONS.get(opened.format or "", (opened.format or "img").lower())
        file = f"{IMAGE_FOLDER}/{digest[:2]}/{digest}.{extension}"
        if not (self.output / file).is_file():
            with atomic_write(self.output / file, "wb") as handle:
                handle.write(data)
        return file, len(data)

    def _settle(self, job: _Job, future: Future) -> None:
        self.busy[job.host] -= 1
        if not self.busy[job.host]:
            del self.busy[job.host]
        try:
            file, size = future.result()
        except FetchError as error:
            self._failed(job, error)
            return
        self.report.downloaded += 1
        self.report.bytes += size
        self._write(job, {"file": file})

    def _failed(self, job: _Job, error: FetchError) -> None:
        delay = error.retry_after if error.retry_after is not None else 2.0**job.attempts
        if error.retry_after is not None:
            # A host that asks for a pause gets it for all of its images.
            self.not_before[job.host] = time.monotonic() + min(error.retry_after, self.max_wait)
        if error.transient and job.attempts < self.retries and delay <= self.max_wait:
            job.attempts += 1
            heapq.heappush(self.delayed, (time.monotonic() + delay, next(self.numbers), job))
            return
        self.report.failures[error.reason] = self.report.failures.get(error.reason, 0) + 1
        self._write(job, {"failed": error.reason, "detail": error.detail, "transient": error.transient})

    def _write(self, job: _Job, outcome: dict[str, Any]) -> None:
        self.log.write(dump_row({"url": job.url, "caption": job.caption, **outcome}))
        self.log.flush()
        if self.progress is not None:
            self.progress(1)


def _host(url: str) -> str:
    try:
        return urllib.parse.urlsplit(url).netloc.lower()
    except ValueError:
        return ""  # no URL: the fetch says so, and all of these count as one host
