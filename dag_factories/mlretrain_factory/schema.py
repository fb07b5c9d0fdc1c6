"""JSON Schemas for editors: completion and checks while a file is written."""

from __future__ import annotations

from typing import Any

from mlretrain_factory.spec.pipeline import PipelineSpec
from mlretrain_factory.spec.policy import PolicySpec
from mlretrain_factory.spec.stack import StackSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"type": "string", "pattern": r"\$\{[^{}]+\}", "description": "A variable."}


def pipeline_schema() -> dict[str, Any]:
    """The schema of ``*.pipeline.yaml``."""
    return _schema(PipelineSpec.model_json_schema(), "mlretrain pipeline")


def stack_schema() -> dict[str, Any]:
    """The schema of ``stacks/*.yaml``."""
    return _schema(StackSpec.model_json_schema(), "mlretrain stack")


def policy_schema() -> dict[str, Any]:
    """The schema of ``policies/*.yaml``, in which there are no variables."""
    schema = PolicySpec.model_json_schema()
    return {"$schema": DIALECT, **schema, "title": "mlretrain policy"}


SCHEMAS = {"pipeline": pipeline_schema, "stack": stack_schema, "policy": policy_schema}
"""By kind of file."""


def _schema(schema: dict[str, Any], title: str) -> dict[str, Any]:
    for section in [schema, *schema.get("$defs", {}).values()]:
        properties = section.get("properties", {})
        section["properties"] = {name: _or_reference(each) for name, each in properties.items()}
    return {"$schema": DIALECT, **schema, "title": title}


def _or_reference(field: dict[str, Any]) -> dict[str, Any]:
    """What is no free text may also be written as ``${name}``, at any depth of a field."""
    for key in ("items", "additionalProperties"):
        if isinstance(field.get(key), dict):
            field[key] = _or_reference(field[key])
    for key in ("prefixItems", "anyOf"):
        if key in field:
            field[key] = [_or_reference(each) for each in field[key]]
    if not _is_strict(field):
        return field
    outer: dict[str, Any] = {
        key: field.pop(key) for key in ("description", "default", "title") if key in field
    }
    return {**outer, "anyOf": [field, _REFERENCE]}


def _is_strict(field: dict[str, Any]) -> bool:
    kind = field.get("type")
    return kind in ("integer", "number", "boolean") or (
        kind == "string" and bool({"pattern", "enum"} & set(field))
    )
