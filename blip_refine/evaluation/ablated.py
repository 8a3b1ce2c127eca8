"""The captioner of an ablation: of any kind, loaded once for each way of decoding, and told apart from others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..captioners.spec import CaptionerSpec, is_other, load_captioner_stream
from ..refine.base import Refiner
from .evaluator import PipelineSystem


class AblatedCaptioner:
    """Called with a way of decoding, it answers with a system that captions so.

    Args:
        model (`str`): A run folder, a Hub id, "starter", `hf:MODEL` or `openai:MODEL@URL`. A server is asked one
            question now.
        ways (`Mapping[str, Mapping[str, Any]]`): For each way of decoding by name `decoding` and `changes` of
            [`CaptionPipeline`]; empty for a server.
        prompt (`str`, *optional*): What captions begin with, or what another captioner is asked.
        batch_size (`int`): Images at once.
        api_key_env (`str`, *optional*): The environment variable with the key of a server.
        prices (`tuple[float, float]`, *optional*): US dollars for a million tokens read and written, of a server.

    Raises:
        ConfigurationError, ModelError: There is no such captioner, or its server does not answer.
    """

    def __init__(
        self,
        model: str,
        ways: Mapping[str, Mapping[str, Any]],
        *,
        batch_size: int,
        prompt: str | None = None,
        api_key_env: str | None = None,
        prices: tuple[float, float] | None = None,
    ):
        self.model, self.ways = model, ways
        self.options: dict[str, Any] = {"batch_size": batch_size, "prompt": prompt}
        self._server: PipelineSystem | None = None
        if is_other(model):
            spec = CaptionerSpec.parse(model)
            if spec.kind == "openai":
                served: dict[str, Any] = {**self.options, "api_key_env": api_key_env, "prices": prices}
                self._server = PipelineSystem(load_captioner_stream(model, **served))
            else:
                from ..models.other_captioners import read_family

                read_family(spec.model, spec.options.get("revision"))

    def __call__(self, decoding: str) -> PipelineSystem:
        """The system that decodes in one way."""
        if self._server is not None:
            return self._server
        return PipelineSystem(load_captioner_stream(self.model, **self.ways[decoding], **self.options))

    def check_refiner(self, refiner: Refiner) -> None:
        """Refuse a refiner that this captioner has too few captions for ([`ServerCaptioner.check_refiner`])."""
        if self._server is not None:
            self._server.pipeline.check_refiner(refiner)

    @property
    def identity(self) -> str:
        """The captioner's name, and for a folder what tells its weights from those of an earlier training into it."""
        folder = Path(CaptionerSpec.parse(self.model).model if is_other(self.model) else self.model)
        files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("generation_config.json")])
        return " ".join([self.model, *(f"{one.name}:{one.stat().st_size}:{one.stat().st_mtime_ns}" for one in files)])
