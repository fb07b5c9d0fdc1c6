"""Records in the artifact store: one small JSON object each, in folders where nothing else belongs."""

from __future__ import annotations

import json
from typing import TypeVar

from mlretrain.errors import ContractError
from mlretrain.ports import ArtifactStore
from mlretrain.runtime.store import join_uri
from mlretrain.wire import from_wire

T = TypeVar("T")


def read_record(store: ArtifactStore, path: str, kind: type[T], *, name: str, folder: str) -> T:
    """The ``kind`` kept at ``path``. Raises :class:`ContractError` naming an object that is none.

    :param name: what it should be, with its article, for the message.
    :param folder: where it does not belong, for the remedy.
    """
    try:
        return from_wire(kind, json.loads(store.read(path)))
    except (ValueError, ContractError) as error:
        raise ContractError(
            f"not {name}",
            where=join_uri(store.root_uri, path),
            found=str(error),
            remedy=f"Move the file out of {folder}; nothing but mlretrain writes there.",
        ) from error
