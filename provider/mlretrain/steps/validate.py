"""The validate step: Great Expectations' verdict on a dataset, with its result and Data Docs kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from mlretrain.data.dataset import Dataset, read_dataset
from mlretrain.errors import InvalidInput
from mlretrain.runtime.expectations import CRITICAL, Suite, parse_expectations
from mlretrain.runtime.validation_page import render_html
from mlretrain.wire import pretty, to_wire

if TYPE_CHECKING:
    import pandas as pd

    from mlretrain.runtime.context import StepContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to expect of which data.

    :param expectations: ``{type, severity, …}`` each, the rest being the expectation's own arguments.
    :param suite: the content of a Great Expectations suite file, ``{name, expectations: [{type, kwargs}]}``.
    :param on_failure: ``quarantine`` sets the failing rows aside and goes on with the others; the other words
        are for the data gate and change nothing here.
    """

    dataset_uri: str
    expectations: tuple[dict[str, Any], ...] = ()
    suite: dict[str, Any] | None = None
    on_failure: Literal["fail", "warn", "skip", "quarantine"] = "fail"


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """Validate; failed expectations are a result, not an error.

    The data passes if every failure is of severity ``warning`` or ``info``, or its rows are in quarantine.

    :raises ConfigError: an expectation does not exist or has wrong arguments.
    """
    from mlretrain.data.read import read_frame

    expectations = parse_expectations(config.expectations, config.suite)
    dataset = read_dataset(config.dataset_uri, ctx.env)
    with ctx.phase("read"):
        frame = read_frame(dataset, env=ctx.env)
    with ctx.phase("import"):
        suite = Suite(ctx.request.pipeline, expectations)
    with ctx.phase("validate"):
        verdict = suite.validate(frame)
    docs = _keep_docs(suite, ctx)
    critical = [each for each in verdict.failures if each.severity == CRITICAL]
    dataset_uri, quarantined = config.dataset_uri, 0
    if config.on_failure == "quarantine" and any(each.by_row for each in critical):
        rows = suite.failing_rows(frame, [each for each in critical if each.by_row])
        dataset_uri, quarantined = _quarantine(dataset, frame, rows, ctx), len(rows)
        critical = [each for each in critical if not each.by_row]
    for failure in verdict.failures:
        print(f"{failure.severity}: {failure.message}", flush=True)  # noqa: T201 - the job's log
    told = render_html(
        verdict.outcomes,
        passed=not critical,
        title=f"{ctx.request.pipeline}: data of the run {ctx.request.run_id}",
        rows=len(frame),
        quarantined=quarantined,
        docs=docs,
    )
    return {
        "passed": not critical,
        "failures": [to_wire(each) for each in verdict.failures],
        "expectations": len(expectations),
        "rows": len(frame),
        "result_uri": ctx.write_output("result", "result.json", pretty(verdict.result)),
        "docs_uri": ctx.write_output("docs", "validation.html", told.encode()),
        "dataset_uri": dataset_uri,
        "quarantined_rows": quarantined,
    }


def _keep_docs(suite: Suite, ctx: StepContext) -> str:
    """Store Great Expectations' site; the path of its page about this validation.

    Pictures and fonts that no page mentions (a guided tour, 3 MB) are left out.
    """
    with ctx.phase("docs"), TemporaryDirectory(prefix="mlretrain-docs-") as name:
        folder = Path(name)
        suite.build_docs(folder)
        files = sorted(each for each in folder.rglob("*") if each.is_file())
        texts = "".join(each.read_text() for each in files if each.suffix in (".html", ".css"))
        for file in files:
            if file.suffix == ".html" or file.name in texts:
                ctx.store.write(f"docs/{file.relative_to(folder).as_posix()}", file.read_bytes())
        shown = next((folder / "validations").rglob("*.html"))
        return f"docs/{shown.relative_to(folder).as_posix()}"


def _quarantine(dataset: Dataset, frame: pd.DataFrame, rows: list[int], ctx: StepContext) -> str:
    """Split the data in two files; the URI of the new dataset without the failing rows."""
    from mlretrain.data.resolve import resolve

    accepted = frame.drop(index=rows)
    if accepted.empty:
        raise InvalidInput(
            "every row fails its expectations, so none is left after the quarantine",
            where=dataset.uri,
            found=f"{len(frame)} rows",
            remedy="Look at the Data Docs of this run: an expectation or the data's unit may be wrong",
        )
    ctx.write_output("quarantine", "quarantine.parquet", _to_parquet(frame.loc[rows]))
    uri = ctx.write_output("accepted", "accepted.parquet", _to_parquet(accepted))
    kept = resolve(uri, time_column=dataset.time_column, start=dataset.start, end=dataset.end, env=ctx.env)
    return ctx.write_output("dataset", "dataset.json", pretty(kept))


def _to_parquet(frame: pd.DataFrame) -> bytes:
    from mlretrain.data.frames import to_parquet
    from mlretrain.data.read import connect

    with connect() as con:
        return to_parquet(con.from_df(frame))
