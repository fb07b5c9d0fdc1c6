"""Where jobs run. ``open_backend`` finds one by name, ours or a third party's."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from mlretrain.errors import ConfigError
from mlretrain.ports import Backend

GROUP = "mlretrain.backends"
_OURS = {"local": "mlretrain_provider.backends.local:LocalBackend"}


def open_backend(name: str) -> Backend:
    """The backend called ``name``: one of ours, or an entry point of the group ``mlretrain.backends``.

    Raises :class:`~mlretrain.errors.ConfigError` for a name that nobody registered.
    """
    if name in _OURS:
        module, _, attribute = _OURS[name].partition(":")
        return cast("Backend", getattr(import_module(module), attribute)())
    registered = {each.name: each for each in entry_points(group=GROUP)}
    if name not in registered:
        raise ConfigError(
            "unknown backend",
            found=repr(name),
            allowed=", ".join(sorted({*_OURS, *registered})),
            remedy=f"Install the package that provides it as an entry point of {GROUP!r}.",
        )
    return cast("Backend", registered[name].load()())
