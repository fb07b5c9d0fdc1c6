"""``docs/stacks.md`` is true: its tables are the spec's own, and its example loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from mlretrain_factory.loader import load_source
from mlretrain_factory.spec.backend import KubernetesSpec, LocalSpec, SagemakerSpec
from mlretrain_factory.spec.stack import StackSpec

DOC = Path(__file__).parents[3] / "docs" / "stacks.md"
GOOD = Path(__file__).parents[2] / "fixtures" / "good"
SECTIONS: dict[str, type[BaseModel]] = {
    each.__name__: each for each in (StackSpec, LocalSpec, KubernetesSpec, SagemakerSpec)
}


def table(section: type[BaseModel]) -> str:
    rows = [f"| `{name}` | {field.description} |" for name, field in section.model_fields.items()]
    return "\n".join(["| key | |", "|---|---|", *rows])


def test_the_tables_are_the_specs_own(request: pytest.FixtureRequest) -> None:
    def fill(found: re.Match[str]) -> str:
        return f"<!-- keys of {found[1]} -->\n{table(SECTIONS[found[1]])}\n<!-- end -->"

    written = DOC.read_text()
    filled, count = re.subn(r"<!-- keys of (\w+) -->\n.*?<!-- end -->", fill, written, flags=re.DOTALL)
    if request.config.getoption("--update-golden"):
        DOC.write_text(filled)
    assert DOC.read_text() == filled
    assert count == len(SECTIONS)


def test_the_example_loads(tmp_path: Path) -> None:
    [stack] = re.findall(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL)
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "local.yaml").write_text(stack + "serving: {conn_id: models}\n")
    text = (GOOD / "churn.pipeline.yaml").read_text() + "team: fraud\n"
    path = tmp_path / "churn.pipeline.yaml"
    path.write_text(re.sub(r"file:///data", "${data_uri}", text))
    source = load_source(path, {}, tmp_path)
    assert source.stack.kubernetes is not None
    assert (source.stack.kubernetes.namespace, source.stack.vars["data_uri"]) == ("fraud", "s3://fraud")
    assert source.spec.data.training.uri.startswith("s3://fraud/")
