"""SageMaker endpoints: brought up, shifted, mirrored, taken back, fenced, tidied; AWS is a fake over HTTP.

What is real and what is fake is said in :mod:`tests.fixtures_endpoints`. The calls are boto3's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow.providers.amazon")

from mlretrain.errors import ConfigError, InvalidInput, MlretrainError, Superseded, TransientError
from mlretrain.ledger import Ledger, LedgerEvent
from mlretrain.ports import Traffic
from mlretrain.runtime.fingerprint import MODEL_TAG
from mlretrain.runtime.store import open_store
from mlretrain_provider.targets.sagemaker_memory import ORDER_TAG
from tests.fixtures_endpoints import PIPELINE, FakeEndpoint, FakeEndpoints, FolderModels, fake_endpoints

pytestmark = pytest.mark.airflow

CHAMPION = Traffic(weights={"1": 100}, generation=1)
CANARY = Traffic(weights={"1": 90, "2": 10}, generation=2)
HALF = Traffic(weights={"1": 50, "2": 50}, generation=3)
PROMOTED = Traffic(weights={"2": 100}, generation=4)
NOTHING = Traffic(generation=5)


@pytest.fixture(scope="module")
def cloud() -> Iterator[FakeEndpoints]:
    with fake_endpoints() as fake:
        yield fake


@pytest.fixture
def aws(cloud: FakeEndpoints) -> FakeEndpoints:
    """A cloud in which nobody has done anything yet."""
    cloud.forget()
    cloud.looks = 1
    return cloud


def serve(aws: FakeEndpoints, *orders: Traffic, **options: Any) -> FakeEndpoint:
    """The endpoint once the orders have been carried out."""
    target = aws.target(**options)
    for order in orders:
        target.apply("flights", order)
    return aws.endpoints["flights"]


def sent(aws: FakeEndpoints, operation: str) -> list[Any]:
    return [params for name, params in aws.requests if name == operation]


def test_a_first_order_packs_creates_and_waits(aws: FakeEndpoints) -> None:
    endpoint = serve(aws, CHAMPION)

    assert endpoint.status == "InService"
    [model] = sent(aws, "create_model")
    [package] = aws.objects()
    assert model["PrimaryContainer"]["ModelDataUrl"] == f"s3://artifacts/{package}"
    assert package.startswith(f"{aws.folder.name}/{PIPELINE}/sagemaker/flights/")
    [config] = sent(aws, "create_endpoint_config")
    assert config["EndpointConfigName"].startswith("flights-g1-")
    assert config["ProductionVariants"] == [
        {
            "VariantName": "v1",
            "ModelName": model["ModelName"],
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
            "InitialVariantWeight": 1.0,
        }
    ]


def test_a_repeated_order_asks_for_nothing(aws: FakeEndpoints) -> None:
    serve(aws, CHAMPION)
    aws.calls.clear()
    serve(aws, CHAMPION)

    assert [each for each in aws.calls if not each.startswith(("describe", "list"))] == []


def test_weights_of_variants_that_are_there_are_moved_without_new_machines(aws: FakeEndpoints) -> None:
    serve(aws, CHAMPION, CANARY)
    aws.calls.clear()
    serve(aws, HALF, Traffic(weights={"1": 0, "2": 100}, generation=4))

    assert aws.calls.count("update_endpoint_weights_and_capacities") == 2
    assert not {"update_endpoint", "create_endpoint_config", "create_model"} & set(aws.calls)
    assert aws.target().current("flights") == Traffic(weights={"1": 0, "2": 100}, generation=4)


def test_other_variants_need_an_update(aws: FakeEndpoints) -> None:
    endpoint = serve(aws, CHAMPION, CANARY)

    [update] = sent(aws, "update_endpoint")
    assert update == {"EndpointName": "flights", "EndpointConfigName": endpoint.config}
    assert endpoint.config.startswith("flights-g2-")


def test_who_is_to_leave_serves_nothing_before_its_machines_are_taken_away(aws: FakeEndpoints) -> None:
    serve(aws, CHAMPION, CANARY)
    before_update: list[Traffic] = []
    aws.before["update_endpoint"] = lambda: before_update.append(aws.target().current("flights"))
    serve(aws, Traffic(weights={"1": 100}, generation=3))

    assert [each.weights for each in before_update] == [{"1": 100, "2": 0}]
    assert aws.target().current("flights") == Traffic(weights={"1": 100}, generation=3)


def test_a_mirrored_version_is_a_shadow_variant_with_its_share(aws: FakeEndpoints) -> None:
    endpoint = serve(aws, CHAMPION, Traffic(weights={"1": 100}, mirrored={"2": 25}, generation=2))

    [shadow] = aws.configs[endpoint.config]["ShadowProductionVariants"]
    assert (shadow["VariantName"], shadow["InitialVariantWeight"]) == ("v2", 0.25)


@pytest.mark.parametrize(
    "order",
    [
        Traffic(weights={"1": 90, "2": 10}, mirrored={"3": 10}, generation=9),
        Traffic(weights={"1": 100, "2": 0}, mirrored={"2": 10}, generation=9),
        Traffic(weights={"1": 100}, mirrored={"2": 10, "3": 10}, generation=9),
        Traffic(weights={str(version): 10 if version < 11 else 0 for version in range(1, 12)}, generation=9),
    ],
)
def test_what_endpoints_cannot_do_is_said_before_anything_is_done(aws: FakeEndpoints, order: Traffic) -> None:
    serve(aws, CHAMPION)
    aws.calls.clear()
    with pytest.raises(InvalidInput, match=r"SageMaker mirrors|at most 10"):
        serve(aws, order)

    assert aws.calls == []


def test_settings_reach_the_requests(aws: FakeEndpoints) -> None:
    serve(
        aws,
        CHAMPION,
        instance_count=3,
        startup_timeout_s=900.0,
        volume_kms_key="alias/disks",
        subnets=["subnet-1"],
        security_group_ids=["sg-1"],
        network_isolation=True,
        env={"MLFLOW_MODELS_WORKERS": "2"},
        tags={"team": "ops"},
    )

    [model], [config] = sent(aws, "create_model"), sent(aws, "create_endpoint_config")
    assert model["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert model["EnableNetworkIsolation"] is True
    assert model["PrimaryContainer"]["Environment"]["MLFLOW_MODELS_WORKERS"] == "2"
    assert {"Key": "team", "Value": "ops"} in model["Tags"]
    assert config["KmsKeyId"] == "alias/disks"
    assert config["ProductionVariants"][0]["InitialInstanceCount"] == 3
    assert config["ProductionVariants"][0]["ContainerStartupHealthCheckTimeoutInSeconds"] == 900


def test_endpoints_are_told_apart_by_a_prefix(aws: FakeEndpoints) -> None:
    aws.target(endpoint_prefix="staging-").apply("Flight Delay", CHAMPION)

    assert [each.startswith("staging-flight-delay-") for each in aws.endpoints] == [True]
    assert aws.target(endpoint_prefix="staging-").current("Flight Delay") == CHAMPION


def test_an_endpoint_of_somebody_else_is_left_alone(aws: FakeEndpoints) -> None:
    serve(aws, CHAMPION)
    aws.tags[aws.endpoints["flights"].arn]["mlretrain:model"] = "delays"
    with pytest.raises(ConfigError, match=r"serves something else.*endpoint_prefix"):
        serve(aws, PROMOTED)

    assert "update_endpoint" not in aws.calls


class TestRollback:
    """Updates that do not come through: what was served is served still, and why is said."""

    def test_an_update_that_aws_takes_back(self, aws: FakeEndpoints) -> None:
        serve(aws, CHAMPION)
        aws.fail("The primary container for production variant v2 did not pass the ping health check.")
        with pytest.raises(InvalidInput, match=r"went back.*ping health check.*serves {'1': 100} still"):
            serve(aws, CANARY)

        assert aws.target().current("flights").weights == {"1": 100}

    def test_an_alarm_goes_with_an_update_that_keeps_the_variants(self, aws: FakeEndpoints) -> None:
        shadow = Traffic(weights={"1": 100}, mirrored={"2": 10}, generation=2)
        serve(aws, CHAMPION, shadow, alarms=["errors-high"])

        update = sent(aws, "update_endpoint")[-1]["DeploymentConfig"]
        assert update["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "errors-high"}]}
        assert update["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] == 300

    def test_an_update_that_alarms_may_not_watch_is_made_without_and_says_so(
        self, aws: FakeEndpoints, caplog: pytest.LogCaptureFixture
    ) -> None:
        serve(aws, CHAMPION, alarms=["errors-high"])
        with caplog.at_level(logging.WARNING):
            serve(aws, CANARY, alarms=["errors-high"])

        assert ["DeploymentConfig" in each for each in sent(aws, "update_endpoint")] == [True, False]
        assert "does not let alarms call off this update" in caplog.text
        assert aws.target().current("flights") == CANARY

    def test_an_update_called_off_by_an_alarm(self, aws: FakeEndpoints) -> None:
        serve(aws, CHAMPION)
        aws.fail("One or more alarms were in ALARM state: errors-high")
        with pytest.raises(InvalidInput, match="errors-high"):
            serve(aws, Traffic(weights={"1": 100}, mirrored={"2": 10}, generation=2), alarms=["errors-high"])

    def test_weights_that_are_taken_back(self, aws: FakeEndpoints) -> None:
        serve(aws, CHAMPION, CANARY)
        aws.fail("The variant could not be scaled")
        with pytest.raises(InvalidInput, match="could not be scaled"):
            serve(aws, HALF)

        assert aws.target().current("flights").weights == CANARY.weights

    def test_a_way_back_that_fails_too_is_named_and_the_next_order_replaces_all(
        self, aws: FakeEndpoints
    ) -> None:
        serve(aws, CHAMPION)
        aws.fail("Rollback failed as well", status="UpdateRollbackFailed")
        with pytest.raises(TransientError, match=r"mixture of old and new.*UpdateRollbackFailed"):
            serve(aws, CANARY)
        assert aws.target().current("flights").served == CHAMPION.weights

        serve(aws, Traffic(weights={"1": 100}, generation=5))
        assert aws.calls.count("update_endpoint") == 2
        assert aws.calls.count("update_endpoint_weights_and_capacities") == 0

    def test_an_endpoint_that_never_came_up_serves_nothing_and_is_replaced(self, aws: FakeEndpoints) -> None:
        aws.fail("The container did not pass the ping health check.", status="Failed")
        with pytest.raises(InvalidInput, match=r"could not be brought up.*ping.*/aws/sagemaker/Endpoints"):
            serve(aws, CHAMPION)
        assert aws.target().current("flights").weights == {}

        serve(aws, Traffic(weights={"1": 100}, generation=2))
        assert aws.target().current("flights").weights == {"1": 100}
        assert aws.calls.count("delete_endpoint") == 1

    @pytest.mark.parametrize(
        "reason",
        [
            "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error.",
            "The account-level service limit 'ml.m5.large for endpoint usage' is 0 Instances",
        ],
    )
    def test_machines_that_are_not_to_be_had_may_be_there_later(
        self, aws: FakeEndpoints, reason: str
    ) -> None:
        serve(aws, CHAMPION)
        aws.fail(reason)
        with pytest.raises(TransientError, match="no such machines for now"):
            serve(aws, CANARY)
        serve(aws, CANARY)

        assert aws.target().current("flights") == CANARY


class TestFence:
    """Of two orders the later one stands, as far as looking before acting can make it so."""

    def test_the_order_is_written_down_before_it_is_carried_out(self, aws: FakeEndpoints) -> None:
        endpoint = serve(aws, CHAMPION)
        aws.refuse("update_endpoint", "AccessDeniedException", "not authorized to perform: UpdateEndpoint")
        with pytest.raises(ConfigError, match="denies access"):
            serve(aws, CANARY)

        assert aws.tags[endpoint.arn][ORDER_TAG] == "2 1=90 2=10"
        assert aws.target().current("flights") == CHAMPION
        with pytest.raises(Superseded):
            serve(aws, CHAMPION)

    def test_a_later_order_that_comes_while_the_model_is_packed_wins(self, aws: FakeEndpoints) -> None:
        keep(aws, "1", "2")
        serve(aws, CHAMPION)
        later = Traffic(weights={"3": 100}, generation=9)
        aws.before["create_endpoint_config"] = lambda: _another_worker(aws, later)
        with pytest.raises(Superseded):
            serve(aws, CANARY)

        assert aws.target().current("flights") == later

    def test_an_order_waits_for_the_change_that_is_under_way(self, aws: FakeEndpoints) -> None:
        serve(aws, CHAMPION)
        later = Traffic(weights={"3": 100}, generation=9)

        def begun_elsewhere() -> None:
            aws.refuse("update_endpoint", "ValidationException", "Cannot update in-progress endpoint")

        aws.before["update_endpoint"] = begun_elsewhere
        serve(aws, later)
        assert aws.target().current("flights") == later

    def test_somebody_who_creates_the_endpoint_first_is_found(self, aws: FakeEndpoints) -> None:
        aws.before["create_endpoint"] = lambda: _another_worker(aws, CANARY)
        serve(aws, CANARY)

        assert aws.target().current("flights") == CANARY

    def test_the_fence_outlives_the_endpoint(self, aws: FakeEndpoints) -> None:
        serve(aws, CHAMPION, CANARY)
        aws.target().apply("flights", NOTHING)

        assert aws.endpoints == {}
        assert aws.target().current("flights") == NOTHING
        for late in (HALF, PROMOTED):
            with pytest.raises(Superseded):
                serve(aws, late)
        serve(aws, Traffic(weights={"2": 100}, generation=6))

    def test_an_endpoint_that_others_keep_changing_is_given_up_for_now(self, aws: FakeEndpoints) -> None:
        serve(aws, CHAMPION)
        aws.refuse("update_endpoint", "ValidationException", "Cannot update in-progress endpoint", times=9)
        with pytest.raises(TransientError, match="somebody else keeps changing"):
            serve(aws, CANARY)


def _another_worker(aws: FakeEndpoints, order: Traffic) -> None:
    aws.target().apply("flights", order)


class TestCrash:
    """A worker dies between any two calls; the next one finds what it left, and ends where it would have."""

    ORDERS = (CHAMPION, CANARY, HALF, PROMOTED, NOTHING)

    def test_after_every_call(self, aws: FakeEndpoints) -> None:
        target = aws.target()
        died: list[int] = []
        while not died or died[-1]:
            model = f"m{len(died)}"
            died.append(0)
            for order in self.ORDERS:
                aws.calls.clear()
                aws.lose = len(died)
                try:
                    target.apply(model, order)
                except MlretrainError:
                    died[-1] += 1
                aws.lose = None
                target.apply(model, order)
                assert target.current(model) == order
                self.is_tidy(aws, model)

        assert len(died) > 15
        assert sum(died) > 50

    def is_tidy(self, aws: FakeEndpoints, model: str) -> None:
        """One configuration is left, and the models that it names."""
        [config] = [each for each in aws.configs if each.startswith(f"{model}-g")]
        variants = aws.configs[config]["ProductionVariants"]
        assert {each for each in aws.models if each.startswith(f"{model}-v")} == {
            each["ModelName"] for each in variants
        }


class TestPackages:
    """Versions are packed and uploaded once, checked, and kept as long as they lead somewhere."""

    def test_a_version_that_was_packed_is_not_copied_again(self, aws: FakeEndpoints) -> None:
        keep(aws, "1", "2")
        serve(aws, CHAMPION, Traffic(weights={"2": 100}, generation=2))
        copied: list[str] = []
        source = Watched(folder=aws.folder / "registry", copied=copied)
        aws.target(source=source).apply("flights", Traffic(weights={"1": 100}, generation=3))

        assert copied == []
        assert aws.calls.count("create_model") == 2

    def test_a_version_of_unknown_digest_is_copied_but_not_uploaded_again(self, aws: FakeEndpoints) -> None:
        keep(aws, "1", "2")
        source = FolderModels(folder=aws.folder / "registry", tagged=False)
        for generation, version in enumerate(("1", "2", "1"), start=1):
            order = Traffic(weights={version: 100}, generation=generation)
            aws.target(source=source).apply("flights", order)

        assert aws.calls.count("create_model") == 2
        assert len(aws.objects()) == 2

    def test_a_package_that_was_lost_is_made_again(self, aws: FakeEndpoints) -> None:
        keep(aws, "1", "2")
        serve(aws, CHAMPION, Traffic(weights={"2": 100}, generation=2))
        for key in aws.objects():
            aws.client("s3").delete_object(Bucket="artifacts", Key=key)
        serve(aws, Traffic(weights={"1": 100}, generation=3))

        assert len(aws.objects()) == 1

    def test_a_model_that_somebody_has_deleted_is_made_again(self, aws: FakeEndpoints) -> None:
        endpoint = serve(aws, CHAMPION)
        [model] = aws.models
        aws.client("sagemaker").delete_model(ModelName=model)
        serve(aws, CANARY)

        assert endpoint.status == "InService"
        assert aws.target().current("flights") == CANARY

    def test_a_version_keeps_its_image_as_long_as_it_is_served(self, aws: FakeEndpoints) -> None:
        serve(aws, CHAMPION)
        serve(aws, CANARY, image="123456789012.dkr.ecr.us-east-1.amazonaws.com/mlflow-pyfunc:4")

        images = [each["PrimaryContainer"]["Image"].rpartition(":")[2] for each in sent(aws, "create_model")]
        assert images == ["3", "4"]

    def test_a_version_that_is_not_what_was_registered_is_refused(self, aws: FakeEndpoints) -> None:
        serve(aws, CHAMPION)
        changed = Changed(folder=aws.folder / "registry")
        with pytest.raises(InvalidInput, match="the model is not what was registered"):
            aws.target(source=changed).apply("flights", CANARY)

        assert aws.target().current("flights") == CHAMPION
        assert len(aws.objects()) == 1

    def test_what_leads_nowhere_is_deleted_and_the_way_back_is_kept(self, aws: FakeEndpoints) -> None:
        keep(aws, "1", "2")
        for generation, version in enumerate(("1", "3", "2"), start=1):
            serve(aws, Traffic(weights={version: 100}, generation=generation))

        assert sorted(each[: len("flights-v1")] for each in aws.models) == ["flights-v1", "flights-v2"]
        assert len(aws.objects()) == 2
        assert len(aws.configs) == 1

    def test_an_order_is_carried_out_though_nothing_may_be_deleted(
        self, aws: FakeEndpoints, caplog: pytest.LogCaptureFixture
    ) -> None:
        serve(aws, CHAMPION)
        aws.refuse("delete_endpoint_config", "AccessDeniedException", "not authorized")
        with caplog.at_level(logging.WARNING):
            serve(aws, PROMOTED)

        assert aws.target().current("flights") == PROMOTED
        assert "not tidied up" in caplog.text


def keep(aws: FakeEndpoints, *champions: str) -> None:
    """Let the ledger know these champions."""
    env = {"AWS_ENDPOINT_URL": aws.endpoint_url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    ledger = Ledger(open_store(aws.artifacts_uri, env), PIPELINE)
    for version in champions:
        at = datetime(2026, 3, int(version), tzinfo=UTC)
        ledger.append(
            LedgerEvent(
                pipeline=PIPELINE,
                run_id=f"run-{version}",
                kind="promoted",
                at=at,
                window_end=at,
                version=version,
            )
        )


class Watched(FolderModels):
    """Tells which versions were copied."""

    def __init__(self, *, folder: Path, copied: list[str]) -> None:
        super().__init__(folder=folder)
        object.__setattr__(self, "_copied", copied)

    __slots__ = ("_copied",)

    def download(self, model: str, version: str, folder: Path) -> Path:
        copied: list[str] = getattr(self, "_copied")  # noqa: B009
        copied.append(version)
        return FolderModels.download(self, model, version, folder)


class Changed(FolderModels):
    """Whose files are others than were registered."""

    __slots__ = ()

    def tags(self, model: str, version: str) -> dict[str, str]:
        return {MODEL_TAG: "0" * 64}


class TestRefusals:
    """What AWS answers when it does not do what is asked."""

    def test_throttling_is_waited_out(self, aws: FakeEndpoints) -> None:
        for operation in ("create_model", "create_endpoint", "describe_endpoint"):
            aws.refuse(operation, "ThrottlingException", "Rate exceeded", times=3)
        serve(aws, CHAMPION)

        assert aws.target().current("flights") == CHAMPION

    def test_throttling_without_end(self, aws: FakeEndpoints) -> None:
        aws.refuse("describe_endpoint", "ThrottlingException", "Rate exceeded", times=6)
        with pytest.raises(TransientError, match="AWS throttles"):
            serve(aws, CHAMPION)

    @pytest.mark.parametrize("operation", ["create_model", "create_endpoint_config", "create_endpoint"])
    def test_what_is_not_allowed(self, aws: FakeEndpoints, operation: str) -> None:
        message = f"User: x is not authorized to perform: sagemaker:{operation}"
        aws.refuse(operation, "AccessDeniedException", message)
        with pytest.raises(
            ConfigError, match=rf"denies access.*{operation}.*connection 'mlretrain_sagemaker'"
        ):
            serve(aws, CHAMPION)

    def test_a_role_that_may_not_be_passed_on(self, aws: FakeEndpoints) -> None:
        message = "User: x is not authorized to perform: iam:PassRole on resource: y"
        aws.refuse("create_model", "AccessDeniedException", message)
        with pytest.raises(ConfigError, match=r"iam:PassRole on sagemaker\.role_arn"):
            serve(aws, CHAMPION)

    def test_a_request_that_is_invalid(self, aws: FakeEndpoints) -> None:
        aws.refuse("create_endpoint_config", "ValidationException", "1 validation error: instanceType")
        with pytest.raises(ConfigError, match=r"refuses the request.*instanceType"):
            serve(aws, CHAMPION)

    def test_a_quota_that_is_used_up(self, aws: FakeEndpoints) -> None:
        message = "The account-level service limit 'ml.m5.large for endpoint usage' is 0 Instances"
        aws.refuse("create_endpoint", "ResourceLimitExceeded", message)
        with pytest.raises(TransientError, match="quota"):
            serve(aws, CHAMPION)

    def test_what_was_just_created_may_be_unknown_for_a_moment(self, aws: FakeEndpoints) -> None:
        unknown = 'Could not find endpoint configuration "arn"'
        aws.refuse("create_endpoint", "ValidationException", unknown, times=3)
        serve(aws, CHAMPION)

        assert aws.target().current("flights") == CHAMPION

    def test_what_stays_unknown(self, aws: FakeEndpoints) -> None:
        aws.refuse("create_endpoint", "ValidationException", "Could not find endpoint configuration", times=4)
        with pytest.raises(TransientError, match="created a moment ago"):
            serve(aws, CHAMPION)

    def test_an_endpoint_that_is_not_ready_in_time(self, aws: FakeEndpoints) -> None:
        aws.looks = 100
        with pytest.raises(TransientError, match=r"not ready after 60 s.*Creating.*A retry waits on"):
            serve(aws, CHAMPION, ready_timeout_s=60)
        aws.endpoints["flights"].looks = 0
        serve(aws, CHAMPION)

        assert aws.calls.count("create_endpoint") == 1

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"role_arn": "mlretrain"}, r"sagemaker\.role_arn"),
            ({"subnets": ["subnet-1"]}, "security_group_ids"),
            ({"model_s3_uri": "file:///models"}, "models from S3 alone"),
            ({"instance_count": 0}, "instance_count"),
            ({"alarms": [str(each) for each in range(11)]}, "alarms"),
            ({"alarm_wait_s": 3601.0}, r"alarm_wait_s.*0 s to 3600 s"),
            ({"startup_timeout_s": 30.0}, r"startup_timeout_s.*60 s to 3600 s"),
        ],
    )
    def test_settings_that_cannot_work(self, aws: FakeEndpoints, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            serve(aws, CHAMPION, **options)

        assert aws.calls == []

    def test_nothing_happens_before_the_first_use(self, aws: FakeEndpoints) -> None:
        make: Callable[..., object] = aws.target
        make(conn_id="there_is_none")

        assert aws.calls == []
