"""What an endpoint and its parts are called, so that each is found again by whoever comes later."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from mlretrain.errors import InvalidInput
from mlretrain.runtime.contract import dns_label

LONGEST_ENDPOINT = 40
"""Of the 63 characters that SageMaker allows, the rest is for what is told apart below one endpoint."""

_DIGITS = 10
_VERSION = re.compile(r"[0-9A-Za-z]{1,10}")


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of one endpoint's parts.

    A model's name ends in a digest of all that it is made of, a configuration's in one of all that it says:
    the same name is the same thing, so that creating it twice finds the first.
    """

    endpoint: str

    @classmethod
    def of(cls, model: str, prefix: str = "") -> Names:
        """The names for the registered model ``model``."""
        return cls(endpoint=dns_label(f"{prefix}{model}", LONGEST_ENDPOINT))

    def model(self, version: str, digest: str) -> str:
        """The SageMaker model of a version."""
        return f"{self.endpoint}-v{version.lower()}-{digest[:_DIGITS]}"

    def config(self, generation: int, digest: str) -> str:
        """The endpoint configuration that an order made."""
        return f"{self.endpoint}-g{generation}-{digest[:_DIGITS]}"

    def generation(self, config: str) -> int:
        """Of which order a configuration is; 0 if it is nobody's, or somebody else's."""
        found = self._config.fullmatch(config)
        return int(found[1]) if found else 0

    def is_config(self, name: str) -> bool:
        """Whether it can be a configuration of this endpoint."""
        return self._config.fullmatch(name) is not None

    def version_of_model(self, name: str) -> str | None:
        """The version that a SageMaker model is of; ``None``: it is not this endpoint's."""
        found = self._model.fullmatch(name)
        return found[1] if found else None

    @cached_property
    def _config(self) -> re.Pattern[str]:
        return re.compile(rf"{re.escape(self.endpoint)}-g(\d+)-[0-9a-f]{{{_DIGITS}}}")

    @cached_property
    def _model(self) -> re.Pattern[str]:
        return re.compile(rf"{re.escape(self.endpoint)}-v([0-9a-z]+)-[0-9a-f]{{{_DIGITS}}}")


def variant_of(version: str) -> str:
    """The variant that serves a version; it is the name of its metrics too.

    :raises InvalidInput: no variant can be called so.
    """
    if not _VERSION.fullmatch(version):
        raise InvalidInput(
            "a version that no SageMaker variant can be named after",
            found=repr(version),
            allowed="1 to 10 letters and digits",
        )
    return f"v{version}"


def version_of(variant: str) -> str:
    """The version that a variant serves."""
    return variant.removeprefix("v")
