"""What SageMaker's answers mean, what things are called, how a version is packed; nobody is asked."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("airflow.sdk")

from mlretrain.errors import InvalidInput
from mlretrain.ports import Traffic
from mlretrain_provider.targets.sagemaker_memory import Memory
from mlretrain_provider.targets.sagemaker_names import LONGEST_ENDPOINT, Names, variant_of, version_of
from mlretrain_provider.targets.sagemaker_package import pack
from mlretrain_provider.targets.sagemaker_state import EndpointState, percents

pytestmark = pytest.mark.airflow

SHARES = st.lists(st.integers(0, 100), min_size=1, max_size=10)


def described(status: str, **fields: Any) -> dict[str, Any]:
    return {"EndpointStatus": status, "EndpointArn": "arn", **fields}


def variants(**weights: float) -> list[dict[str, Any]]:
    return [{"VariantName": name, "CurrentWeight": weight} for name, weight in weights.items()]


@given(SHARES)
def test_percentages_sum_to_100(weights: list[int]) -> None:
    found = percents({str(index): float(weight) for index, weight in enumerate(weights)})

    assert sum(found.values()) == (100 if sum(weights) else 0)
    assert all(
        abs(found[str(index)] - 100 * weight / sum(weights)) < 1
        for index, weight in enumerate(weights)
        if sum(weights)
    )


@given(st.integers(0, 100))
def test_percentages_come_back_as_they_were_ordered(percent: int) -> None:
    assert percents({"1": percent / 100, "2": 1 - percent / 100}) == {"1": percent, "2": 100 - percent}


def test_weights_of_any_sum_are_percentages() -> None:
    state = EndpointState.of(described("InService", ProductionVariants=variants(v1=2.0, v2=1.0)), Memory())

    assert state.traffic == Traffic(weights={"1": 67, "2": 33})


def test_a_shadow_is_measured_by_whom_it_stands_behind() -> None:
    answer = described(
        "InService", ProductionVariants=variants(v1=4.0), ShadowProductionVariants=variants(v2=1.0)
    )

    assert EndpointState.of(answer, Memory()).traffic == Traffic(weights={"1": 100}, mirrored={"2": 25})


@pytest.mark.parametrize("status", ["Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"])
def test_an_endpoint_that_is_changed_answers_as_before(status: str) -> None:
    state = EndpointState.of(described(status, ProductionVariants=variants(v1=1.0)), Memory())

    assert state.traffic.weights == {"1": 100}
    assert not state.is_serving(Traffic(weights={"1": 100}))


@pytest.mark.parametrize("status", ["Creating", "Failed", "OutOfService", "Deleting"])
def test_an_endpoint_that_does_not_answer_serves_nothing(status: str) -> None:
    state = EndpointState.of(described(status, ProductionVariants=variants(v1=1.0)), Memory())

    assert state.traffic == Traffic()


@given(SHARES, st.dictionaries(st.integers(1, 99), st.integers(1, 100), max_size=2), st.integers(1, 10**6))
def test_orders_are_remembered_in_tags(weights: list[int], mirrored: dict[int, int], generation: int) -> None:
    order = Traffic(
        weights={str(index): weight for index, weight in enumerate(weights, start=1)},
        mirrored={str(version): share for version, share in mirrored.items()},
        generation=generation,
    )
    memory = Memory(last=order, in_force=generation)

    assert Memory.of(memory.tags) == memory
    assert all(len(value) <= 256 for value in memory.tags.values())


def test_an_endpoint_without_tags_remembers_nothing() -> None:
    assert Memory.of({"team": "ops"}) == Memory()


@given(st.text(min_size=1, max_size=80), st.integers(0, 10**9))
def test_names_are_as_sagemaker_wants_them(model: str, generation: int) -> None:
    names = Names.of(model, "prefix-")
    digest = "0123456789abcdef"
    config, sagemaker_model = names.config(generation, digest), names.model("1234567890", digest)

    assert len(names.endpoint) <= LONGEST_ENDPOINT
    assert max(len(config), len(sagemaker_model)) <= 63
    assert names.is_config(config)
    assert names.generation(config) == generation
    assert names.version_of_model(sagemaker_model) == "1234567890"
    assert not names.is_config(sagemaker_model)
    assert names.version_of_model(config) is None


def test_names_of_other_endpoints_are_not_ours() -> None:
    ours, other = Names.of("m"), Names.of("m-v2")

    assert not ours.is_config(other.config(3, "0" * 10))
    assert ours.version_of_model(other.model("7", "0" * 10)) is None
    assert ours.generation("endpoint-of-terraform") == 0


def test_a_variant_is_named_after_its_version() -> None:
    assert version_of(variant_of("17")) == "17"
    with pytest.raises(InvalidInput, match="named after"):
        variant_of("12345678901")


class TestPack:
    """The same files are the same package, wherever and whenever they were downloaded."""

    def test_nothing_but_the_files_counts(self, tmp_path: Path) -> None:
        first, second = self.model(tmp_path / "a"), self.model(tmp_path / "b")
        os.utime(second / "MLmodel", (1, 1))
        (second / "MLmodel").chmod(0o600)
        (second / "registered_model_meta").write_text("model_version: '7'")
        (second / "code" / "__pycache__").mkdir()
        (second / "code" / "__pycache__" / "flights.cpython-312.pyc").write_bytes(b"\0")

        digests = {pack(folder, tmp_path / f"{folder.name}.tar.gz") for folder in (first, second)}
        assert len(digests) == 1

    def test_other_files_are_another_package(self, tmp_path: Path) -> None:
        first, second = self.model(tmp_path / "a"), self.model(tmp_path / "b")
        (second / "model.pkl").write_bytes(b"other")

        assert pack(first, tmp_path / "1") != pack(second, tmp_path / "2")

    def test_what_is_unpacked_is_the_model(self, tmp_path: Path) -> None:
        folder = self.model(tmp_path / "a")
        (folder / "link.pkl").symlink_to(folder / "model.pkl")
        pack(folder, tmp_path / "model.tar.gz")
        with tarfile.open(tmp_path / "model.tar.gz") as tar:
            assert tar.getnames() == ["MLmodel", "code/flights.py", "link.pkl", "model.pkl"]
            tar.extractall(tmp_path / "opt", filter="data")

        assert (tmp_path / "opt" / "link.pkl").read_bytes() == b"model"

    def model(self, folder: Path) -> Path:
        (folder / "code").mkdir(parents=True)
        (folder / "MLmodel").write_text("flavors: {}")
        (folder / "model.pkl").write_bytes(b"model")
        (folder / "code" / "flights.py").write_text("pass")
        return folder
