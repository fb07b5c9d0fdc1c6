"""Where jobs run. ``open_backend`` finds one by name, ours or a third party's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any, cast

from mlretrain.errors import ConfigError
from mlretrain.ports import Backend

GROUP = "mlretrain.backends"
_OURS = {
    "local": "mlretrain_provider.backends.local:LocalBackend",
    "kubernetes": "mlretrain_provider.backends.kubernetes:KubernetesBackend",
    "sagemaker": "mlretrain_provider.backends.sagemaker:SagemakerBackend",
}


def open_backend(name: str, options: Mapping[str, Any] | None = None) -> Backend:
    """The backend called ``name``: one of ours, or an entry point of the group ``mlretrain.backends``.

    :param options: its keyword arguments, as plain JSON.
    Raises :class:`~mlretrain.errors.ConfigError` for a name that nobody registered, or unknown options.
    """
    make = _constructor(name)
    try:
        inspect.signature(make).bind(**(options or {}))
    except TypeError as error:
        raise ConfigError(
            str(error),
            where=f"options of the backend {name!r}",
            found=", ".join(sorted(options or {})) or "none",
            allowed=", ".join(inspect.signature(make).parameters),
        ) from None
    return make(**(options or {}))


def _constructor(name: str) -> Callable[..., Backend]:
    if name in _OURS:
        return cast("Callable[..., Backend]", resolve_name(_OURS[name]))
    registered = {each.name: each for each in entry_points(group=GROUP)}
    if name not in registered:
        raise ConfigError(
            "unknown backend",
            found=repr(name),
            allowed=", ".join(sorted({*_OURS, *registered})),
            remedy=f"Install the package that provides it as an entry point of {GROUP!r}.",
        )
    return cast("Callable[..., Backend]", registered[name].load())
