"""The page about a search: the best first, everything of the user's escaped."""

from __future__ import annotations

from html.parser import HTMLParser

from mlretrain_provider.study import Trial
from mlretrain_provider.study_page import render_html

TRIALS = (
    Trial(number=0, params={"depth": 3, "kind": "<b>"}, mlflow_run_id="a", state="complete", value=0.61239),
    Trial(number=1, params={"depth": 7, "kind": None}, mlflow_run_id="b", state="complete", value=0.75),
    Trial(
        number=2,
        params={"depth": 9, "kind": [64, 32]},
        mlflow_run_id="c",
        state="failed",
        error={"message": "ValueError: <script>"},
    ),
    Trial(number=3, params={"depth": 1, "kind": "a"}, mlflow_run_id="d"),
)


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_every_trial_is_told_and_nothing_of_it_is_markup() -> None:
    html = render_html(TRIALS, best=TRIALS[1], metric="roc_auc", title="churn & co")
    page = _Texts()
    page.feed(html)
    assert "churn & co" in page.texts
    assert "roc_auc 0.75" in page.texts
    assert "Trial 1 is the best: depth 7, kind –." in page.texts
    assert "4 trials, 1 failed" in page.texts
    told = ("0.6124", "<b>", "[64, 32]", "ValueError: <script>", "best", "running")
    assert all(each in page.texts for each in told)
    assert not {"script", "b", "link", "img"} & page.tags
    assert "http" not in html


def test_a_search_of_nothing_has_a_page_too() -> None:
    trial = Trial(number=0, params={}, mlflow_run_id="a", state="complete", value=1.0)
    assert "Trial 0 is the best." in render_html([trial], best=trial, metric="f1", title="churn")
