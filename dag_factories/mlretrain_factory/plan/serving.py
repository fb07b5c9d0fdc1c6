"""Where a pipeline's models are served, as one argument of whatever asks the target."""

from __future__ import annotations

from typing import Any

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan.options import plain, written
from mlretrain_factory.spec.serving import ClusterServingSpec, OtherServingSpec


def serving(source: PipelineSource) -> dict[str, Any]:
    """``{"serving": {target, conn_id, …}}``; nothing for a pipeline that serves nothing."""
    section, stack = source.stack.serving, source.stack
    if section is None or source.spec.deploy.strategy == "none":
        return {}
    if isinstance(section, OtherServingSpec):
        own = {**plain(written(section)), **section.options}
        own.pop("options", None)
        return {"serving": own}
    inherited = {"image": stack.image} if stack.image and isinstance(section, ClusterServingSpec) else {}
    return {"serving": {"target": section.target, **inherited, **plain(written(section))}}
