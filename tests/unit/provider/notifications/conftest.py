"""What has happened, as callbacks are told of it."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator

from mlretrain_provider.notifications.base import Notice

PROMOTED = {"outcome": "promoted", "event": "promoted", "reason": "roc_auc 0.74 over 0.71", "version": "7"}
RUN = {"dag_id": "flights.retrain", "run_id": "drift__2026-03-09"}


class Task:
    """A task instance with a result."""

    task_id = "record"
    dag_id = "flights.retrain"
    log_url = "http://airflow/dags/flights.retrain/runs/drift__2026-03-09/tasks/record"

    def __init__(self, result: Any) -> None:
        self.result = result
        with DAG(self.dag_id):
            self.task = BaseOperator(task_id=self.task_id)

    def xcom_pull(self, *, task_ids: str) -> Any:
        return self.result


def context(result: Any = None, **extra: Any) -> Any:
    return {"ti": Task(result), "dag_run": RUN, **extra}


@pytest.fixture
def notice() -> Notice:
    return Notice(
        event="promoted",
        pipeline="flights",
        run_id="drift__2026-03-09",
        reason="roc_auc 0.74 over 0.71 <b>{{ ti.xcom_pull() }}</b> & more",
        version="7",
        previous="6",
        url="http://airflow/dags/flights.retrain/runs/drift__2026-03-09?a=1&b=2",
        model_url="http://mlflow/#/models/flights/versions/7",
    )
