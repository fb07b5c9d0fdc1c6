"""The model card of what an operator has promoted or taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlretrain.card import publish
from mlretrain.dossier import gather
from mlretrain.runtime.store import read_uri

if TYPE_CHECKING:
    from mlretrain_provider.operators.pipeline import PipelineOperator


def publish_card(operator: PipelineOperator, version: str) -> str:
    """Write the version's card anew, from all that is known now; its URI in the artifact store."""
    dossier = gather(
        operator.pipeline,
        version,
        ledger=operator.ledger,
        registry=operator.registry,
        read=lambda uri: read_uri(uri, operator.storage_env or None),
    )
    uri = publish(dossier, store=operator.store, tracker=operator.tracker, registry=operator.registry)
    operator.log.info("Model card: %s", uri)
    return uri
