"""JSON Schemas for editors: completion and checks while a file is written."""

from __future__ import annotations

from typing import Any

from mlretrain_factory.spec.pipeline import PipelineSpec
from mlretrain_factory.spec.stack import StackSpec

_REFERENCE = {"type": "string", "pattern": r"\$\{[^{}]+\}", "description": "A variable."}


def pipeline_schema() -> dict[str, Any]:
    """The schema of ``*.pipeline.yaml``."""
    return _schema(PipelineSpec.model_json_schema(), "mlretrain pipeline")


def stack_schema() -> dict[str, Any]:
    """The schema of ``stacks/*.yaml``."""
    return _schema(StackSpec.model_json_schema(), "mlretrain stack")


def _schema(schema: dict[str, Any], title: str) -> dict[str, Any]:
    for section in [schema, *schema.get("$defs", {}).values()]:
        properties = section.get("properties", {})
        section["properties"] = {name: _or_reference(each) for name, each in properties.items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _or_reference(field: dict[str, Any]) -> dict[str, Any]:
    """A number or a truth value may also be written as ``${name}``."""
    if field.get("type") not in ("integer", "number", "boolean"):
        return field
    outer: dict[str, Any] = {
        key: field.pop(key) for key in ("description", "default", "title") if key in field
    }
    return {**outer, "anyOf": [field, _REFERENCE]}
