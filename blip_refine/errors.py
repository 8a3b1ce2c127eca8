"""The errors that a user of `blip_refine` can meet, each with what was wrong, where, and what to do.

```
BlipRefineError                    anything this library refuses; the command line prints it plainly and exits with 2
├── ConfigurationError             an option, a name or a combination of options that cannot be
│   ├── MissingExtraError          an optional package is needed; the message quotes the `pip install` line
│   └── SplitNotFoundError         a data set has no split of that name
├── DataError                      captions or images cannot be used
│   ├── SourceNotFoundError        a file, folder, dataset or model is not where it was looked for
│   ├── SourceFormatError          a file is there, and is not what it should be (wrong header, broken row)
│   ├── ImageDecodeError           one image cannot be decoded
│   └── LeakageError               evaluation images that the model was trained on
├── ModelError                     a checkpoint cannot be loaded, or does not fit what it is used for
│   └── CaptionerUnansweredError   a captioner's server answered nothing at all; the command line exits with 1
├── MetricError                    predictions and references do not belong together, or a scorer failed
├── RefinerError                   a refiner could not be built, or failed for a whole batch
│   └── RefinerUnansweredError     a refiner answered nothing at all; the command line exits with 1
└── HubError                       the Hub cannot be reached, or refused
```
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .installation import install_command


class BlipRefineError(Exception):
    """Base of every error that this library raises on purpose. Its text is a plain sentence for the user.

    Args:
        *texts (`object`): The sentence.
        arguments (`Iterable[str]`): The Python arguments that the sentence names, each written `name=`, `name=...` or
            `name={...}`. Whoever takes them by another name (a flag, a hyperparameter) shows that one instead, see
            [`spelled`].
    """

    exit_code = 2
    """What the command line exits with: 2 for what was asked wrongly, 1 for what failed."""

    def __init__(self, *texts: object, arguments: Iterable[str] = ()):
        super().__init__(*texts)
        self.arguments = tuple(arguments)

    def spelled(self, spell: Callable[[str, str | None], str]) -> str:
        """The sentence with every argument that it names as the user writes it.

        Args:
            spell (`Callable[[str, str | None], str]`): From an argument's name and its value in the sentence ("...",
                "{'train': 1}", or `None`) to what is shown instead.
        """
        text = str(self)
        for name in dict.fromkeys(self.arguments):
            pattern = rf"(?<![\w-]){re.escape(name)}=(\.\.\.|\{{[^{{}}]*\}})?"
            text = re.sub(pattern, lambda match: spell(name, match[1]), text)  # noqa: B023
        return text


class ConfigurationError(BlipRefineError, ValueError):
    """An option, a name or a combination of options that cannot be."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional package is needed and not installed.

    Args:
        package (`str`): The package that could not be imported.
        extra (`str`): The extra of `blip_refine` that installs it.
        purpose (`str`): What it is needed for, as the end of the sentence "... is needed to ...".
    """

    def __init__(self, package: str, extra: str, purpose: str):
        self.package, self.extra = package, extra
        super().__init__(f"`{package}` is needed to {purpose}: {install_command(extra)}")


class SplitNotFoundError(ConfigurationError):
    """A data set has no split of that name."""


class DataError(BlipRefineError):
    """Captions or images cannot be used."""


class SourceNotFoundError(DataError, FileNotFoundError):
    """A file, folder, dataset or model is not where it was looked for."""


class SourceFormatError(DataError, ValueError):
    """A file is there, and is not what it should be."""


class ImageDecodeError(DataError):
    """One image cannot be decoded."""


class LeakageError(DataError):
    """The evaluation holds images that the model was trained on."""


class ModelError(BlipRefineError):
    """A checkpoint cannot be loaded, or does not fit what it is used for."""


class CaptionerUnansweredError(ModelError):
    """The server of a captioner answered nothing at all, so that there are no captions."""

    exit_code = 1


class MetricError(BlipRefineError, ValueError):
    """Predictions and references do not belong together, or a scorer failed."""


class RefinerError(BlipRefineError):
    """A refiner could not be built, or failed for a whole batch."""


class RefinerUnansweredError(RefinerError):
    """A refiner answered nothing at all, so that there are no refined captions."""

    exit_code = 1


class HubError(BlipRefineError):
    """The Hub cannot be reached, or refused."""
