from __future__ import annotations

from typing import Any

import pytest

from mlretrain_factory.source_map import Node, parse
from mlretrain_factory.substitution import Substitution


def substitute(
    text: str, *, variables: str = "{}", environ: dict[str, str] | None = None
) -> tuple[Any, list[str]]:
    layer: dict[str, Node] = parse(variables, "vars").value
    substitution = Substitution(
        [layer], allowed=["HOME"], environ=environ or {}, stack_file="stacks/local.yaml"
    )
    node = substitution.apply(parse(text, "f"))
    return node.data, [str(error) for error in substitution.errors]


@pytest.mark.parametrize(
    ("variables", "value"),
    [("{x: 3}", 3), ("{x: true}", True), ("{x: [a, 1]}", ["a", 1]), ("{x: ~}", None), ("{x: '3'}", "3")],
)
def test_a_whole_reference_keeps_the_type(variables: str, value: Any) -> None:
    assert substitute("a: ${x}", variables=variables) == ({"a": value}, [])


def test_inside_text_it_becomes_text() -> None:
    data, errors = substitute("a: x${n}-${flag}", variables="{n: 3, flag: true}")
    assert (data, errors) == ({"a": "x3-true"}, [])


def test_two_dollars_are_one() -> None:
    assert substitute("a: $${x} costs $5")[0] == {"a": "${x} costs $5"}


def test_variables_refer_to_variables_and_to_the_environment() -> None:
    data, errors = substitute("a: ${x}", variables="{x: '${y}/b', y: '${env.HOME}'}", environ={"HOME": "/h"})
    assert (data, errors) == ({"a": "/h/b"}, [])


@pytest.mark.parametrize(
    ("text", "variables", "message"),
    [
        ("a: ${env.PATH}", "{}", "f:1:4: a: the stack does not allow the environment variable `PATH`"),
        ("a: ${env.HOME}", "{}", "the environment variable `HOME` is not set"),
        ("a: ${y}", "{x: 1}", "unknown variable `y`"),
        ("a: b${x}", "{x: [1]}", "`x` is a list and stands inside of text"),
        ("a: ${x}", "{x: {y: 1}}", "vars:1:5: vars.x: a variable is one value or a list of values"),
        ("a: ${x}", "{x: ['${y}'], y: [1]}", "a variable is one value or a list of values"),
        ("a: ${x}", "{x: '${y}', y: '${x}'}", "variables refer to each other in a circle"),
    ],
)
def test_what_cannot_be_replaced_is_one_message(text: str, variables: str, message: str) -> None:
    _, errors = substitute(text, variables=variables)
    assert len(errors) == 1
    assert message in errors[0]


def test_text_cannot_explode() -> None:
    variables = (
        "{a0: xxxxxxxxxxxxxxxx, " + ", ".join(f"a{i}: '{f'${{a{i - 1}}}' * 9}'" for i in range(1, 9)) + "}"
    )
    _, errors = substitute("a: ${a8}", variables=variables)
    assert "longer than" in errors[0]
