"""A retraining DAG written by hand: the provider's operators without any YAML.

Set ``MLRETRAIN_HOME`` to the folder that holds ``data/flights`` and takes the artifacts. The connection
``model_server`` names a running ``mlretrain serve``.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG

from mlretrain_provider.operators.data import (
    DataGateOperator,
    ResolveDataOperator,
    ValidateDataOperator,
)
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.registry import (
    PromoteModelOperator,
    PromotionGateOperator,
    RegisterModelOperator,
)
from mlretrain_provider.operators.smoke import SmokeTestOperator
from mlretrain_provider.operators.training import EvaluateModelOperator, TrainModelOperator

SERVING = {"target": "local", "conn_id": "model_server"}
HOME = os.environ.get("MLRETRAIN_HOME", "/tmp/mlretrain")

with DAG(
    "flights-by-hand",
    schedule="@weekly",
    max_active_runs=1,
    default_args={
        "pipeline": "flights-by-hand",
        "artifacts_uri": f"file://{HOME}/artifacts",
        "retries": 2,
        "retry_delay": timedelta(seconds=10),
    },
):
    data = ResolveDataOperator(
        task_id="resolve_data",
        uri=f"file://{HOME}/data/flights/*.parquet",
        time_column="sched_dep_time",
        window="90d",
    )
    validation = ValidateDataOperator(
        task_id="validate_data",
        dataset=data.output,
        expectations=[{"type": "expect_column_values_to_not_be_null", "column": "carrier"}],
    )
    gate = DataGateOperator(task_id="data_gate", validation=validation.output)
    training = TrainModelOperator(
        task_id="train",
        dataset=gate.output,
        entrypoint="flights.train:train",
        hyperparameters={"max_depth": 6},
        target="late",
        features={"exclude": ["flight_id"]},
        holdout={"by": "time", "fraction": 0.15},
        time_column="sched_dep_time",
        prediction_method="predict_proba",
    )
    evaluation = EvaluateModelOperator(
        task_id="evaluate",
        training=training.output,
        target="late",
        metrics=["roc_auc", "log_loss"],
        slices=["origin"],
        latency_rows=50,
    )
    version = RegisterModelOperator(
        task_id="register", training=training.output, evaluation=evaluation.output
    )
    tested = SmokeTestOperator(
        task_id="smoke_test", training=training.output, version=version.output, mode="job"
    )
    verdict = PromotionGateOperator(
        task_id="promotion_gate",
        evaluation=evaluation.output,
        smoke_test=tested.output,
        gates=[{"metric": "roc_auc", "min": 0.6}, {"metric": "roc_auc", "versus": "champion"}],
    )
    promotion = PromoteModelOperator(task_id="promote", version=version.output, serving=SERVING)
    record = RecordRunOperator(task_id="record", serving=SERVING)
    verdict >> promotion >> record.as_teardown()
