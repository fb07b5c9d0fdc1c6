from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlretrain.errors import ContractError
from mlretrain.runtime.contract import (
    StepRequest,
    parse_report,
    parse_request,
    request_key,
    run_slug,
    step_prefix,
)
from mlretrain.wire import pretty

REQUEST = StepRequest(
    step="profile",
    pipeline="flights",
    run_id="drift__2013-04-01",
    window_end=datetime(2013, 4, 1, tzinfo=UTC),
    key="k",
    config={"dataset_uri": "file:///x"},
    output_uri="file:///out",
)


def test_a_request_survives_the_wire() -> None:
    assert parse_request(pretty(REQUEST), "r") == REQUEST


@pytest.mark.parametrize("protocol", [b"2", b'"1"', b"null"])
def test_another_protocol_is_refused(protocol: bytes) -> None:
    data = pretty(REQUEST).replace(b'"protocol": 1', b'"protocol": ' + protocol)
    with pytest.raises(ContractError, match=r"another version of the step protocol \(found .*; allowed: 1\)"):
        parse_request(data, "s3://b/request.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"protocol": 1}'])
def test_what_is_no_report_is_refused_with_its_place(data: bytes) -> None:
    with pytest.raises(ContractError, match=r"report\.json"):
        parse_report(data, "file:///out/report.json")


def test_the_key_depends_on_the_work_alone() -> None:
    key = request_key("train", "p", "r", {"a": 1, "b": 2})
    assert key == request_key("train", "p", "r", {"b": 2, "a": 1})
    assert (
        len({key, request_key("train", "p", "r2", {"a": 1, "b": 2}), request_key("train", "p", "r", {})}) == 3
    )
    assert len(key) == 12


@pytest.mark.parametrize("run_id", ["drift__2013-04-01", "a.b", "x" * 80])
def test_a_plain_run_id_is_its_own_slug(run_id: str) -> None:
    assert run_slug(run_id) == run_id


@pytest.mark.parametrize("run_id", ["manual__2013-04-01T00:00:00Z", "../up", "a/b", "x" * 81, "ü", "..", ""])
def test_any_other_run_id_becomes_one_safe_segment(run_id: str) -> None:
    slug = run_slug(run_id)
    assert slug != run_slug(run_id + "!")
    assert len(slug) <= 80
    assert not {"/", "..", ":"} & {slug, *slug}


def test_the_folder_of_a_step() -> None:
    assert step_prefix("p", "r", "train", "abc") == "p/runs/r/train-abc"
