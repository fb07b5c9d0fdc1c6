"""The page stands by itself, says the same as the table, and shows nothing that could run."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from mlretrain.simulation.bench import Bench
from mlretrain.simulation.outcome import Tile, outcome, spans
from mlretrain.simulation.page import render_html
from mlretrain.simulation.plot import render_svg
from mlretrain.simulation.recommend import Recommendation
from mlretrain.simulation.simulate import Question, Simulation, simulate
from mlretrain.simulation.table import render_text


@pytest.fixture
def simulation(bench: Bench, question: Question) -> Simulation:
    return simulate(question, bench, jobs=0, notes=["Nothing was trained."])


def trained(simulation: Simulation) -> Simulation:
    """The same as if models had been trained."""
    tiles = [
        Tile(start=start, end=end, rows=100, value=0.7 + i / 100)
        for i, (start, end) in enumerate(
            spans(simulation.start, simulation.end, (simulation.end - simulation.start) / 9)
        )
    ]
    results = tuple(
        replace(each, outcome=outcome(each.replay, tiles, higher_is_better=True))
        for each in simulation.results
    )
    return replace(
        simulation,
        trained=True,
        results=results,
        recommendation=Recommendation(setting="never", reason="never: it is enough."),
        timings={each.name: 12.3 for each in results},
    )


def test_the_table_has_a_line_for_each_setting(simulation: Simulation) -> None:
    lines = render_text(simulation).splitlines()

    assert lines[0] == "late, 01 Feb 2026 to 01 May 2026: 89 windows, 90,600 rows"
    assert lines[2].split() == ["setting", "retrains", "drift", "in", "windows"]
    assert [line.split("  ")[0] for line in lines[3:5]] == ["as written", "never"]
    assert lines[-1] == "- Nothing was trained."


def test_the_table_tells_quality_and_cost_of_trained_models(simulation: Simulation) -> None:
    line = render_text(trained(simulation)).splitlines()[3]

    assert line.split()[-7:] == ["0.74", "0.7", "from", "01", "Feb", "12", "s"]


def test_the_page_needs_no_network_and_no_script(simulation: Simulation) -> None:
    for each in (simulation, trained(simulation)):
        html = render_html(each)
        assert "<script" not in html
        assert "http" not in html
        assert html.count("<svg") == len(each.results) + each.trained
        assert "retrain: drift in 2 of the last" in html


def test_what_comes_from_data_is_escaped(simulation: Simulation) -> None:
    evil = replace(simulation, pipeline="<b>", notes=("<script>",))

    for text in (render_html(evil), render_svg(evil)):
        assert "<b>" not in text
        assert "<script>" not in text


def test_the_picture_is_a_file_of_its_own(simulation: Simulation) -> None:
    for each in (simulation, trained(simulation)):
        root = ElementTree.fromstring(render_svg(each))
        texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"as written", "never", "Mar"} <= set(texts)
