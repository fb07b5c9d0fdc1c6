"""The champion as an Airflow asset: scoring DAGs that are scheduled on it start when it changes.

A task cannot know whether Airflow has heard of a change before it ended, so it asks: the events of the alias
are what Airflow has heard. An event is written together with the task's success, so that a task that is
repeated after a crash tells, and one that is cleared does not tell again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow.sdk import Asset, AssetAlias

from mlretrain.runtime.fingerprint import MODEL_TAG

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from mlretrain.ledger import Ledger, LedgerEvent
    from mlretrain_provider.operators.pipeline import PipelineOperator

SCHEME = "x-mlretrain"
GROUP = "model"


def champion_asset(pipeline: str) -> Asset:
    """The champion of a pipeline, for a DAG's ``schedule``.

    Each event's ``extra`` is ``{version, previous, digest, reason, run}``: the version that is champion now
    and the one before, the SHA-256 of its files, why it changed, and the run that changed it.
    """
    return Asset(name=f"{pipeline}.champion", uri=f"{SCHEME}://{pipeline}/champion", group=GROUP)


def champion_alias(pipeline: str) -> AssetAlias:
    """What tasks that may change the champion declare; it has an event only if they say so."""
    return AssetAlias(name=f"{pipeline}.champion", group=GROUP)


def asset_at(uri: str) -> Asset:
    """The asset of that URI: a pipeline's champion, or else one that has no other name.

    Airflow tells assets apart by name and URI, and lets no two share one of them.
    """
    parts = urlsplit(uri)
    if parts.scheme == SCHEME and parts.path == "/champion":
        return champion_asset(parts.netloc)
    return Asset(name=uri, uri=uri)


def as_it_is(parts: SplitResult) -> SplitResult:
    """The URI unchanged: there is one way to write it."""
    return parts


def may_change_champion(operator: PipelineOperator) -> None:
    """Declare, as the operator is made, that it may call :func:`emit_champion`."""
    alias = champion_alias(operator.pipeline)
    operator.inlets = [*operator.inlets, alias]
    operator.outlets = [*operator.outlets, alias]


def emit_champion(operator: PipelineOperator, context: Context, run_id: str) -> bool:
    """Tell Airflow that this run has changed the champion; ``False`` if it has not, or Airflow has heard.

    :param run_id: the run, as the ledger knows it.
    """
    crowned = crowning(operator.ledger)
    alias = _declared(operator, operator.pipeline)
    if crowned is None or crowned.run_id != run_id or alias is None:
        return False
    heard = next(iter(context["inlet_events"][alias].ascending(False).limit(1)), None)
    if heard is not None and (heard.extra or {}).get("run") == run_id:
        return False
    version = operator.registry.version(operator.pipeline, str(crowned.version))
    extra: dict[str, Any] = {
        "version": crowned.version,
        "previous": crowned.previous,
        "digest": version.tags.get(MODEL_TAG) if version else None,
        "reason": crowned.reason,
        "run": run_id,
    }
    context["outlet_events"][alias].add(champion_asset(operator.pipeline), extra=extra)
    operator.log.info("DAGs that are scheduled on %s start.", champion_asset(operator.pipeline).uri)
    return True


def crowning(ledger: Ledger) -> LedgerEvent | None:
    """The event that made the champion of now champion; ``None`` while there is none.

    A roll-back that ends a rollout names the champion too, but does not change it.
    """
    found: LedgerEvent | None = None
    for event in ledger.events("promoted", "rolled_back"):
        if event.version and (found is None or event.version != found.version):
            found = event
    return found


def _declared(operator: BaseOperator, pipeline: str) -> AssetAlias | None:
    """The pipeline's alias if it was declared; a pipeline named by a template cannot be."""
    alias = champion_alias(pipeline)
    return alias if alias in operator.inlets and alias in operator.outlets else None
