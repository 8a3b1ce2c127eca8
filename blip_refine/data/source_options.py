"""What a user says of a data set in text (flags, hyperparameters, a YAML file), and the calls that it stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, DataError, SplitNotFoundError

if TYPE_CHECKING:
    from .dataset import BlipCaptionDataset

SPLITS = ("train", "validation", "test")
_RESERVED = ("split", "source", "rejections", "option")


@dataclass(frozen=True)
class SourceOptions:
    """Where a data set is and how it is read.

    Args:
        data_dir (`str`, *optional*): The folder of its files.
        image_dir (`str`, *optional*): The folder of its photos, if they are elsewhere.
        download_dir (`str`, *optional*): Where photos are downloaded to, for a source that lists addresses.
        split_lists (`str`, *optional*): The folder of the official split lists.
        image_column (`str`, *optional*): The column of the image.
        caption_column (`tuple[str, ...]`, *optional*): The column or columns of captions.
        id_column, split_column, prompt_column (`str`, *optional*): The columns of name, split and prompt.
        ratios (`Mapping[str, float]`, *optional*): Make splits of these sizes.
        option (`Mapping[str, Any]`): Whatever else the source takes.
    """

    data_dir: str | None = None
    image_dir: str | None = None
    download_dir: str | None = None
    split_lists: str | None = None
    image_column: str | None = None
    caption_column: tuple[str, ...] | None = None
    id_column: str | None = None
    split_column: str | None = None
    prompt_column: str | None = None
    ratios: Mapping[str, float] | None = None
    option: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> SourceOptions:
        """Read options as they were typed.

        Args:
            given (`Mapping[str, Any]`): By name; others than those of this class are passed over. `ratios` may be
                text ("90/5/5", "train=80,test=20"), `caption_column` names with commas between them or a list,
                `option` `NAME=VALUE`, a list of these, a JSON object, or a mapping.

        Raises:
            ConfigurationError: One cannot be read.
        """
        said = {name: given[name] for name in OPTION_NAMES if given.get(name) not in (None, "", [], ())}
        if "ratios" in said:
            said["ratios"] = parse_ratios(said["ratios"])
        if "caption_column" in said:
            columns = said["caption_column"]
            said["caption_column"] = tuple(columns.split(",") if isinstance(columns, str) else columns)
        said["option"] = parse_options(said.get("option", ()))
        for name, value in said.items():
            if not isinstance(value, (tuple, Mapping)):
                said[name] = str(value)  # YAML reads a column called 1 as a number
        return cls(**said)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of [`load_source`] that were given."""
        said = {name: getattr(self, name) for name in OPTION_NAMES if name != "option"}
        if self.caption_column is not None and len(self.caption_column) == 1:
            said["caption_column"] = self.caption_column[0]
        return {**{name: value for name, value in said.items() if value is not None}, **self.option}

    @property
    def flags(self) -> list[str]:
        """The same options as parts of a command line."""
        parts: list[str] = []
        for name in OPTION_NAMES:
            value = getattr(self, name)
            if name == "option":
                parts += [part for key, one in value.items() for part in ("--option", f"{key}={_as_text(one)}")]
            elif value is not None:
                if isinstance(value, Mapping):
                    value = ",".join(f"{key}={share:g}" for key, share in value.items())
                shown = ",".join(value) if isinstance(value, tuple) else value
                parts += [f"--{name.replace('_', '-')}", shown]
        return parts

    def load(self, source: str, split: str | None = None, limit: int | None = None) -> BlipCaptionDataset:
        """One split of a source.

        Args:
            source (`str`): See [`load_source`].
            split (`str`, *optional*): "train", "validation" or "test". By default the test split or, without one, the
                validation split.
            limit (`int`, *optional*): Only the first so many images.

        Raises:
            SplitNotFoundError, DataError: The split is not there, or empty.
        """
        from .dataset import BlipCaptionDataset
        from .sources import load_source

        _check_limit(limit)
        made = self.ratios
        if split is None and made is not None and not made.get("test") and made.get("validation"):
            split = "validation"
        try:
            records = load_source(source, split=split or "test", **self.arguments)
        except SplitNotFoundError:
            if split is not None:
                raise
            records = load_source(source, split="validation", **self.arguments)
        if not records:
            raise DataError(f"{source} has no images in its {split or 'test'} split.")
        return BlipCaptionDataset(records[:limit])

    def load_parts(
        self, source: str, train_limit: int | None = None, evaluation_limit: int | None = None
    ) -> dict[str, BlipCaptionDataset | None]:
        """The three splits that a training needs, from a source that is read once.

        Args:
            source (`str`): See [`load_source`].
            train_limit (`int`, *optional*): Only the first so many training images.
            evaluation_limit (`int`, *optional*): The same of validation and of test.

        Returns:
            `dict`: "train", "validation" and "test"; `None` for a split that the source does not have.

        Raises:
            SplitNotFoundError, DataError: There are no training images.
        """
        from .dataset import BlipCaptionDataset
        from .sources.made_splits import of_split
        from .sources.registry import load_splits

        _check_limit(train_limit)
        _check_limit(evaluation_limit)
        found = load_splits(source, **self.arguments)
        if not found.get("train"):
            if not any(found.values()):
                raise DataError(f"{source} has no images with captions.")
            of_split([one for part in found.values() for one in part], "train", source)
        limits = {"train": train_limit, "validation": evaluation_limit, "test": evaluation_limit}
        return {name: BlipCaptionDataset(found[name][: limits[name]]) if found.get(name) else None for name in SPLITS}


OPTION_NAMES = tuple(one.name for one in fields(SourceOptions))


def parse_ratios(given: str | Mapping[str, Any]) -> dict[str, float]:
    """ "90/5/5" (train, validation, test), "80/20" (train, test), "train=80,test=20" or a mapping, as shares.

    Raises:
        ConfigurationError: It is none of these.
    """
    try:
        if isinstance(given, Mapping):
            return {str(name): float(share) for name, share in given.items()}
        if "=" in given:
            return {name.strip(): float(share) for name, share in (part.split("=") for part in given.split(","))}
        shares = [float(share) for share in given.split("/")]
        names = {1: ("train",), 2: ("train", "test"), 3: SPLITS}[len(shares)]
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"ratios= is 90/5/5 or train=80,test=20, not {given!r}.", arguments=("ratios",)
        ) from error
    return dict(zip(names, shares, strict=True))


def parse_options(given: str | Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """`NAME=VALUE`, several of them, a JSON object or a mapping, as arguments of a source.

    Numbers, `true` and `false` are read as JSON has them; everything else is text.

    Raises:
        ConfigurationError: It is none of these, or a name has an argument of its own.
    """
    pairs: Any = [given] if isinstance(given, str) else given
    if isinstance(given, str) and given.startswith("{"):
        try:
            pairs = json.loads(given)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"option= is not JSON ({error}).", arguments=("option",)) from error
    options: dict[str, Any] = dict(pairs) if isinstance(pairs, Mapping) else {}
    for pair in () if isinstance(pairs, Mapping) else pairs:
        name, equals, value = str(pair).partition("=")
        if not equals or not name:
            raise ConfigurationError(f"option= is NAME=VALUE, not {pair!r}.", arguments=("option",))
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    for name in options:
        if name in _RESERVED or name in OPTION_NAMES:
            instead = f" Use {name}=... instead." if name in OPTION_NAMES and name != "option" else ""
            raise ConfigurationError(f"{name!r} is not an option of a source.{instead}", arguments=(name,))
    return options


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ConfigurationError(f"The number of images must be at least 1, not {limit}.")
