"""The key of a paid service: read from the environment, used in one place, and never shown."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit, urlunsplit

from ..errors import ConfigurationError

_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|pk|rk|hf|gsk|xai)[-_][A-Za-z0-9_\-*]{8,}|(?i:bearer)\s+[A-Za-z0-9._\-]{8,}")
HIDDEN = "[key]"


class ApiKey:
    """A key by the name of its environment variable. Printing, copying into a record or pickling it shows no key.

    Args:
        variable (`str`): The environment variable that holds the key.
        required (`bool`, defaults to `True`): Whether it must be set. A server of one's own often wants no key.

    Raises:
        ConfigurationError: The variable is not set, or a key was given in place of a variable's name.
    """

    __slots__ = ("_value", "variable")

    def __init__(self, variable: str, required: bool = True):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            # The text itself is not quoted: it may be the key.
            raise ConfigurationError(
                "The API key is given by the name of an environment variable that holds it (such as OPENAI_API_KEY), "
                "never itself: a command line is seen by every user of the machine."
            )
        self.variable = variable
        self._value = os.environ.get(variable, "").strip()
        if required and not self._value:
            raise ConfigurationError(
                f"The environment variable {variable} is not set: it must hold the API key "
                f"(export {variable}=...). For a server without keys, give its base_url alone."
            )

    def reveal(self) -> str:
        """The key itself, or a text that no server takes for one where there is none."""
        return self._value or "none"

    def redact(self, text: str) -> str:
        """`text` without the key, and without whatever looks like one."""
        if self._value:
            text = text.replace(self._value, HIDDEN)
        return _LOOKS_LIKE_A_KEY.sub(HIDDEN, text)

    def __repr__(self) -> str:
        return f"ApiKey({self.variable})"

    def __reduce__(self):
        return ApiKey, (self.variable, False)


def without_credentials(url: str) -> str:
    """`url` without user name, password and query, as it may be shown and kept."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, host + (f":{parts.port}" if parts.port else ""), parts.path, "", ""))
