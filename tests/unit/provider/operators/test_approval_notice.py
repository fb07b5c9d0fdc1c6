"""People hear that they are asked, which version it is about, and where to look and to answer."""

from __future__ import annotations

from typing import Any

import pytest

from mlretrain_provider.answers import APPROVE
from mlretrain_provider.notifications.base import MlretrainNotifier, Notice
from tests.unit.provider.operators.test_approval import Case


class Remembering(MlretrainNotifier):
    """Keeps what it is told."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.told: list[Notice] = []

    def send(self, notice: Notice) -> None:
        self.told.append(notice)


def test_who_is_asked_hears_of_it_once(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    notifier = Remembering(on=["approval_needed"])
    case = Case(world, notifiers=[notifier])

    assert case.answer(case.ask(), APPROVE).state == "success"

    (notice,) = notifier.told
    assert notice.title == "churn v8 approval needed"
    assert notice.reason == "Promote churn version 8?"
    page = "https://airflow.example.com/dags/churn.retrain/runs/run-1/tasks/approve/required_actions"
    assert notice.links == {
        "Answer": f"{page}?map_index=-1",
        "Model version": "http://mlflow/models/churn/versions/8",
    }


def test_nobody_hears_of_an_approval_that_is_not_needed(world: Any) -> None:
    notifier = Remembering()

    assert Case(world, required="never", notifiers=[notifier]).ask().state == "success"

    assert notifier.told == []
