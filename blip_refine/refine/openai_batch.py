"""The Batch API: all requests as one file, answered within a day, at half the price at OpenAI.

A job is remembered in the cache as soon as it exists. A process that died finds it again there, or in the server's
list of jobs by a mark that the job carries, and collects its answers: no job is sent twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RefinerError
from ..records import RefineRequest
from .base import Proposal
from .openai_answers import BrokenAnswer, said_by
from .openai_calls import Answer, Caller

if TYPE_CHECKING:
    from .openai import OpenAIRefiner

NOTE = "batch-job "
MARK = "blip_refine"
OVER = ("completed", "failed", "expired", "cancelled")
MOST_REQUESTS = 50_000
"""What OpenAI takes in one job."""


def run_batch(
    refiner: OpenAIRefiner, requests: Sequence[RefineRequest], feedback: Sequence[str | None]
) -> Iterator[tuple[int, Proposal]]:
    """Send what no job has yet, wait for all jobs, and yield each answer with the place of its request.

    Raises:
        RefinerError: The server refused the job, or cannot be asked.
    """
    import openai

    cache = refiner.cache
    assert cache is not None  # The refiner's constructor sees to it.
    keys = [refiner.key(request, reason) for request, reason in zip(requests, feedback, strict=True)]
    place_of = {key: place for place, key in enumerate(keys)}
    known = {name[len(NOTE) :]: set(json.loads(text)) for name, text in cache.notes(NOTE).items()}
    jobs = [job for job, members in known.items() if members & set(keys)]
    missing = [key for key in keys if not any(key in known[job] for job in jobs)]
    caller = refiner.caller(None)
    with refiner.client(asynchronous=False) as client:
        try:
            for start in range(0, len(missing), MOST_REQUESTS):
                part = missing[start : start + MOST_REQUESTS]
                bodies = {
                    k: caller.body(refiner.messages_of(requests[place_of[k]], feedback[place_of[k]])) for k in part
                }
                job = _found(client, part) or _send(client, bodies)
                cache.note(NOTE + job, json.dumps(part))
                jobs.append(job)
            for job in jobs:
                try:
                    for key, answer in _collect(client, caller, job, refiner.batch_poll):
                        if key in place_of:
                            yield place_of[key], refiner.proposal_of(answer)
                except (RefinerError, openai.NotFoundError):
                    # The job came to nothing: what it was to answer is sent anew by the next run.
                    cache.note(NOTE + job, None)
                    raise
                cache.note(NOTE + job, None)
        except openai.OpenAIError as error:
            text = refiner.key_of_account.redact(str(error))
            raise RefinerError(f"The batch job could not be run: {text}") from None


def _digest(keys: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()


def _found(client: Any, keys: Sequence[str]) -> str | None:
    """The job for exactly these requests, where it was sent and the process died before it could note that."""
    import openai

    try:
        jobs = client.batches.list(limit=100).data
    except (openai.NotFoundError, openai.BadRequestError):
        return None
    for job in jobs:
        if (job.metadata or {}).get(MARK) == _digest(keys) and job.status not in ("failed", "expired", "cancelled"):
            return job.id
    return None


def _send(client: Any, bodies: dict[str, dict[str, Any]]) -> str:
    lines = [
        {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        for key, body in bodies.items()
    ]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    file = client.files.create(file=("captions.jsonl", content), purpose="batch")
    job = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={MARK: _digest(list(bodies))},
    )
    return job.id


def _collect(client: Any, caller: Caller, job_id: str, poll: float) -> Iterator[tuple[str, Answer]]:
    """Every answer of a job, once it is over. What it did not answer is left out, and asked anew by the next run."""
    job = client.batches.retrieve(job_id)
    while job.status not in OVER:
        time.sleep(poll)
        job = client.batches.retrieve(job_id)
    if job.output_file_id is None and job.error_file_id is None:
        raise RefinerError(f"The batch job {job_id} {job.status} without a single answer.")
    for file_id in (job.output_file_id, job.error_file_id):
        if file_id is None:
            continue
        for line in client.files.content(file_id).text.splitlines():
            yield from _read(line, caller)


def _read(line: str, caller: Caller) -> Iterator[tuple[str, Answer]]:
    try:
        row = json.loads(line)
        key, response = row["custom_id"], row.get("response") or {}
    except (ValueError, KeyError, TypeError, AttributeError):
        # A line that names no request cannot be anyone's answer: that request is answered with "no answer".
        return
    if response.get("status_code") == 200:
        try:
            yield key, caller.answer(said_by(response.get("body")))
        except BrokenAnswer as error:
            yield key, Answer(None, str(error))
    else:
        yield (
            key,
            Answer(None, caller.key.redact(f"the server answered {json.dumps(row.get('error') or response)}"[:300])),
        )
