"""What all tests share. Nothing here reaches the internet."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import uuid
from pathlib import Path

# Before anything imports huggingface_hub: its settings are read once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import psutil  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# The same examples in every run: a property that fails once in a thousand must not fail on somebody else's change.
# Search for new ones with HYPOTHESIS_PROFILE=default.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_modifyitems(items):
    if os.name != "posix":
        for item in items:
            if item.get_closest_marker("posix"):
                item.add_marker(pytest.mark.skip(reason="signals, file modes or pipes of POSIX"))


STARTER = Path(__file__).resolve().parent.parent / "blip_refine" / "starter"

LONGEST_RUN = 7200
# Every process of a run inherits this, by which it is found if it is left behind.
RUN = "BLIP_REFINE_TEST_RUN"
_guard = pytest.StashKey[threading.Timer]()
_died = pytest.StashKey[str]()


def pytest_configure(config):
    """Ends a run that nothing else ends. In the process that the workers report to, so they end with it."""
    if not hasattr(config, "workerinput"):
        os.environ[RUN] = uuid.uuid4().hex
        guard = threading.Timer(LONGEST_RUN, _give_up)
        guard.daemon = True
        config.stash[_guard] = guard
        guard.start()


def pytest_unconfigure(config):
    if guard := config.stash.get(_guard, None):
        guard.cancel()
        _end_what_is_left()


def _end_what_is_left():
    """Ends servers and programs that tests have started and left behind, those of workers that died included."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(RUN) == os.environ[RUN]:
                process.kill()
        except psutil.Error:
            continue  # it has ended, or is somebody else's


def _give_up():
    sys.__stderr__.write(f"\nThe run did not end within {LONGEST_RUN} s. Every thread of its first process:\n")
    faulthandler.dump_traceback(sys.__stderr__)
    sys.__stderr__.flush()
    _end_what_is_left()
    os._exit(1)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Remembers that a worker died, be it between two tests or before the first."""
    if error:
        node.config.stash[_died] = f"{node.gateway.id}: {error}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """A run in which a worker died has failed, even if no test has."""
    if session.config.stash.get(_died, None) and exitstatus in (
        pytest.ExitCode.OK,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem, report, sched):
    """Ends the run where a worker of pytest-xdist dies, and names the test. Left to itself, the run waits for the
    other workers, which may hang for the same reason."""
    pytest.exit(
        f"The process that ran {crashitem} died: by that test, or by a thread or a child that an earlier one left.",
        returncode=pytest.ExitCode.TESTS_FAILED,
    )


class _Deprecations(logging.Handler):
    """Deprecations that a library logs instead of warning of them."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "deprecated" in (message := record.getMessage()).lower():
            self.messages.append(f"{record.name}: {message}")


@pytest.fixture(autouse=True)
def no_deprecated_calls():
    """A library that logs that what was called is deprecated fails the test, as a warning would (pyproject.toml)."""
    heard = _Deprecations()
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub", "datasets", "accelerate")]
    for logger in loggers:
        logger.addHandler(heard)
    yield
    for logger in loggers:
        logger.removeHandler(heard)
    assert not heard.messages, "a library logs a deprecation"


@pytest.fixture(autouse=True)
def away_from_the_repository(tmp_path, monkeypatch):
    """A test that writes to a relative path writes into a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photos and gold scores that `BLIP_REFINE_TEST_DATA` names."""
    folder = os.environ.get("BLIP_REFINE_TEST_DATA")
    if not folder:
        pytest.skip("BLIP_REFINE_TEST_DATA is not set: no real photos to test on")
    path = Path(folder)
    assert path.is_dir(), f"BLIP_REFINE_TEST_DATA names {folder!r}, which is not a folder"
    return path


@pytest.fixture
def tiny_captioner():
    """A random BLIP of 32x32 pixels with the starter's processor: every part real, and fast.

    Returns a function, so that a test can have several with equal weights: `tiny_captioner(seed=0)`.
    """
    import torch
    from transformers import BlipConfig, BlipProcessor

    from blip_refine.models.blip import BlipForConditionalGeneration

    def make(seed: int = 0, image_size: int = 32, **text):
        processor = BlipProcessor.from_pretrained(STARTER)
        processor.image_processor.size = {"height": image_size, "width": image_size}
        tokenizer = processor.tokenizer
        config = BlipConfig(
            text_config={
                "vocab_size": len(tokenizer) + 2,
                "hidden_size": 32,
                "encoder_hidden_size": 32,
                "intermediate_size": 64,
                "projection_dim": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "max_position_embeddings": 64,
                "bos_token_id": len(tokenizer),
                "eos_token_id": tokenizer.sep_token_id,
                "sep_token_id": tokenizer.sep_token_id,
                "pad_token_id": tokenizer.pad_token_id,
                **text,
            },
            vision_config={
                "hidden_size": 32,
                "intermediate_size": 64,
                "projection_dim": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": image_size,
                "patch_size": 16,
                "initializer_range": 0.02,
            },
            projection_dim=32,
        )
        torch.manual_seed(seed)
        return BlipForConditionalGeneration(config).eval(), processor

    return make
