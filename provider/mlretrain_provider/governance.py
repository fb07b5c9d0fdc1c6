"""What a run is held against before its model gets traffic or becomes the champion.

That is what the platform's policies demand, and what the tasks before it in the DAG are there for. Only the
run's ledger counts: a task that somebody marked as success has shown nothing, and a DAG that leaves a task
out is held against the policies all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mlretrain import wire
from mlretrain.conduct import unmet, unmet_before_traffic
from mlretrain.errors import ConfigError, ContractError, MlretrainError
from mlretrain.governance import (
    Policy,
    Require,
    Terms,
    Violation,
    applying,
    read_policy,
    violations,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlretrain_provider.operators.pipeline import PipelineOperator
    from mlretrain_provider.run import RunIdentity

SECTION, OPTION = "mlretrain", "policies"
TIER = "tier:"
"""Before the number: the DAG's tag that says its pipeline's tier."""

Given = Sequence[Mapping[str, Any]]
"""The policies that were found to apply when the DAG was made, on the wire."""


@runtime_checkable
class Demanding(Protocol):
    """A task that stands for something in the ledger."""

    def demanded(self) -> Require:
        """What the ledger must show of it before the model gets on."""


def check_promotion(
    task: PipelineOperator, run: RunIdentity, context: Context, policies: Given, *, version: str
) -> None:
    """Raises :class:`ContractError` unless the run's ledger shows all that is demanded of a champion."""
    events = task.ledger.of_run(run.run_id)
    demands = [*_of_tasks(context), *policies_for(task, context, policies)]
    _refuse(task, run, unmet(demands, events, version=version))


def check_traffic(
    task: PipelineOperator,
    run: RunIdentity,
    context: Context,
    policies: Given,
    *,
    version: str,
    strategy: str,
    share: int,
) -> None:
    """Raises :class:`ContractError` unless the ledger shows what is demanded before any traffic.

    :param share: of the requests, in percent, that the version is to answer; 0 for copies or none.
    """
    events = task.ledger.of_run(run.run_id)
    done = unmet(_of_tasks(context), events, version=version)
    applied = policies_for(task, context, policies)
    begun = unmet_before_traffic(applied, events, version=version, strategy=strategy, share=share)
    _refuse(task, run, [*done, *begun])


def check_terms(
    task: PipelineOperator, run: RunIdentity, context: Context, policies: Given, terms: Terms, *sections: str
) -> None:
    """Raises :class:`ContractError` if a task's own settings are less than a policy demands.

    A gate or an approval that would not count later is told so before it starts.

    :param sections: the dotted paths of the pipeline's file that the task is about.
    """
    found = [each for policy in policies_for(task, context, policies) for each in violations(policy, terms)]
    _refuse(task, run, [each for each in found if each.dotted.startswith(sections)])


def policies_for(task: PipelineOperator, context: Context, given: Given) -> tuple[Policy, ...]:
    """The policies that apply: those of the plan, and those of the platform's folder as it is now.

    Which of the folder apply is told by the DAG: its tags, its tier as a tag ``tier:1``, the task's owner.
    """
    tags = tuple(getattr(context["dag"], "tags", None) or ())
    tiers = [tag.removeprefix(TIER) for tag in tags if tag.startswith(TIER)]
    tier = int(tiers[0]) if tiers and tiers[0].isdigit() else None
    here = applying(platform_policies(), pipeline=task.pipeline, tags=tags, owner=task.owner, tier=tier)
    compiled = (wire.from_wire(Policy, dict(each)) for each in given)
    return (*here, *(policy for policy in compiled if policy not in here))


def platform_policies() -> tuple[Policy, ...]:
    """The policies in the folder that ``[mlretrain] policies`` of Airflow's configuration names.

    Fails closed: raises :class:`ConfigError` if the folder is not there, or a file in it is no policy.
    """
    from airflow.sdk.configuration import conf

    named = (conf.get(SECTION, OPTION, fallback="") or "").strip()
    if not named:
        return ()
    folder = Path(named)
    if not folder.is_dir():
        raise ConfigError(
            "the folder of the platform's policies is not there",
            where=f"[{SECTION}] {OPTION}",
            found=named,
            remedy="Put the folder where every worker sees it, or correct the setting.",
        )
    return tuple(_read(path) for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]))


def _read(path: Path) -> Policy:
    import yaml

    try:
        data = yaml.safe_load(path.read_text())
        if not isinstance(data, Mapping):
            raise ConfigError("not a policy of the platform", where=str(path), found=type(data).__name__)
        return read_policy(data, where=str(path))
    except (OSError, yaml.YAMLError, MlretrainError) as error:
        raise ConfigError(
            "a policy of the platform that cannot be read",
            where=str(path),
            found=" ".join(str(error).split()),
            remedy="Nothing is promoted until it is corrected.",
        ) from None


def _of_tasks(context: Context) -> Iterator[Policy]:
    upstream = context["task"].get_flat_relatives(upstream=True)
    for each in sorted(upstream, key=lambda task: task.task_id):
        if isinstance(each, Demanding):
            yield Policy(name=f"task {each.task_id}", require=each.demanded())


def _refuse(task: PipelineOperator, run: RunIdentity, found: Sequence[Violation]) -> None:
    if found:
        raise ContractError(
            "this is not allowed yet",
            where=f"{run.dag_id}/{task.task_id}",
            found="; ".join(
                f"{each.policy} demands {each.demanded}, there is {each.found}" for each in found
            ),
            remedy="Clear what is missing, so that it runs; what the ledger does not show does not count.",
        )
