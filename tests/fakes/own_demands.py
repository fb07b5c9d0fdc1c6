"""A pipeline's own terms as if a policy of the platform demanded them."""

from __future__ import annotations

from mlretrain.governance import Policy, Require, RequiredApproval, Terms
from mlretrain.strictness import said


def demands_of(terms: Terms, *, name: str) -> Policy:
    """The terms as a policy: what a pipeline asks of itself, for a run to be held against."""
    approval = terms.approval
    return Policy(
        name=name,
        require=Require(
            mode="enforce" if terms.mode == "enforce" else None,
            strategies=(terms.strategy,),
            approval=None
            if approval.required == "never"
            else RequiredApproval(
                required=approval.required,
                assignees=approval.assignees,
                on_timeout="reject" if approval.on_timeout == "reject" else None,
                reason="required" if approval.reason == "required" else None,
            ),
            gates=tuple(said(gate) for gate in terms.gates),
            guards=tuple(said(guard) for guard in terms.guards),
            smoke_test=None if terms.smoke_test == "none" else terms.smoke_test,
            stages=terms.stages,
        ),
    )
