"""Great Expectations, silent and offline: expectations as data in, failures as sentences out."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    import pandas as pd

CRITICAL = "critical"
SEVERITIES = (CRITICAL, "warning", "info")
_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One expectation; ``where`` is its place in the pipeline's file or suite."""

    type: str
    kwargs: Mapping[str, Any]
    severity: str = CRITICAL
    meta: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An expectation that is not met, or could not be checked.

    :param observed: what was found, for people.
    :param unexpected_percent: of the rows; ``None`` for expectations about the table as a whole.
    :param by_row: whether the rows at fault are known.
    :param message: all of it in one sentence.
    """

    type: str
    column: str | None
    severity: str
    observed: str
    unexpected_percent: float | None
    by_row: bool
    message: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one expectation.

    :param column: its column or columns; ``None`` if it is about the table as a whole.
    :param observed: what was found, for people.
    """

    expectation: Expectation
    column: str | None
    met: bool
    observed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The failures, what came of each expectation, and Great Expectations' whole result as JSON."""

    failures: tuple[Failure, ...]
    outcomes: tuple[Outcome, ...]
    result: dict[str, Any]


def parse_expectations(
    inline: Sequence[Mapping[str, Any]], suite: Mapping[str, Any] | None
) -> tuple[Expectation, ...]:
    """Those of a pipeline, then those of a suite file. Raises :class:`ConfigError` for another shape."""
    own = {"type", "severity", "meta"}
    found = [
        _expectation(
            each, {key: value for key, value in each.items() if key not in own}, f"validate.expectations[{i}]"
        )
        for i, each in enumerate(inline)
    ]
    for i, each in enumerate((suite or {}).get("expectations", [])):
        found.append(_expectation(each, each.get("kwargs", {}), f"validate.suite.expectations[{i}]"))
    return tuple(found)


def _expectation(data: Mapping[str, Any], kwargs: Mapping[str, Any], where: str) -> Expectation:
    kind, severity = data.get("type") or data.get("expectation_type"), data.get("severity") or CRITICAL
    if not isinstance(kind, str):
        raise ConfigError("an expectation needs a type", where=where, allowed="expect_…")
    if severity not in SEVERITIES:
        raise ConfigError(
            "unknown severity", where=f"{where}.severity", found=repr(severity), allowed=", ".join(SEVERITIES)
        )
    return Expectation(
        type=kind, kwargs=dict(kwargs), severity=severity, meta=data.get("meta") or {}, where=where
    )


class Suite:
    """Expectations that Great Expectations has accepted, ready to judge frames.

    :param name: of the suite, data source and page titles.
    :raises ConfigError: an expectation does not exist or has wrong arguments.
    """

    def __init__(self, name: str, expectations: Sequence[Expectation]) -> None:
        self._name = name
        self._expectations = expectations
        with _quiet():
            gx = _import_gx()
            self._context: Any = gx.get_context(mode="ephemeral")
            self._context.variables.progress_bars = {"globally": False, "metric_calculations": False}
            for site in list(self._context.get_site_names()):
                self._context.delete_data_docs_site(site)
            source = self._context.data_sources.add_pandas(name)
            self._batch = source.add_dataframe_asset("data").add_batch_definition_whole_dataframe("window")
            self._configurations = [_configuration(each) for each in expectations]

    def validate(self, frame: pd.DataFrame) -> Verdict:
        """Judge ``frame`` by all expectations."""
        result = self._run(self._name, self._configurations, frame, "SUMMARY").to_json_dict()
        judged = list(zip(_in_order(result["results"]), self._expectations, strict=True))
        failures = [
            _failure(outcome, expectation, position)
            for position, (outcome, expectation) in enumerate(judged)
            if not outcome["success"]
        ]
        outcomes = [
            Outcome(
                expectation=expectation,
                column=_column(expectation),
                met=bool(outcome["success"]),
                observed=_observed(outcome, expectation),
            )
            for outcome, expectation in judged
        ]
        return Verdict(failures=tuple(failures), outcomes=tuple(outcomes), result=result)

    def failing_rows(self, frame: pd.DataFrame, failures: Sequence[Failure]) -> list[int]:
        """The positions of all rows at fault, ascending; ``frame`` has a plain range index."""
        configurations = [self._configurations[each.position] for each in failures]
        result = self._run(f"{self._name}-rows", configurations, frame, "COMPLETE").to_json_dict()
        return sorted({row for each in result["results"] for row in each["result"]["unexpected_index_list"]})

    def build_docs(self, folder: Path) -> None:
        """Write the Data Docs of the last validation to ``folder``, beginning with ``index.html``."""
        site = {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(folder),
            },
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        with _quiet():
            self._context.add_data_docs_site(site_name=self._name, site_config=site)
            self._context.build_data_docs(site_names=[self._name])

    def _run(self, name: str, configurations: Sequence[Any], frame: pd.DataFrame, detail: str) -> Any:
        gx = _import_gx()
        with _quiet():
            expectations = []
            for position, configuration in enumerate(configurations):
                configuration.meta = {**(configuration.meta or {}), _POSITION: position}
                expectations.append(configuration.to_domain_obj())
            suite = self._context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
            validation = self._context.validation_definitions.add(
                gx.ValidationDefinition(name=name, data=self._batch, suite=suite)
            )
            return validation.run(
                batch_parameters={"dataframe": frame}, result_format={"result_format": detail}
            )


_POSITION = "mlretrain_position"


def _in_order(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(results, key=lambda each: int(each["expectation_config"]["meta"][_POSITION]))


def _configuration(expectation: Expectation) -> Any:
    from great_expectations.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    try:
        get_expectation_impl(expectation.type)
    except ExpectationNotFoundError:
        known = list_registered_expectation_implementations()
        near = difflib.get_close_matches(expectation.type, known, 1)
        raise ConfigError(
            f"there is no expectation {expectation.type!r}",
            where=expectation.where,
            remedy=f"Did you mean {near[0]}?" if near else "See the gallery of Great Expectations 1.x",
        ) from None
    configuration = ExpectationConfiguration(
        type=expectation.type,
        kwargs=dict(expectation.kwargs),
        severity=expectation.severity,
        meta=dict(expectation.meta),
    )
    try:
        configuration.to_domain_obj()
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise ConfigError(
            f"{expectation.type} has wrong arguments",
            where=expectation.where,
            found="; ".join(lines[1:] or lines)[:300],
        ) from error
    return configuration


def _failure(outcome: Mapping[str, Any], expectation: Expectation, position: int) -> Failure:
    result, column, observed = outcome["result"], _column(expectation), _observed(outcome, expectation)
    checked = _exception(outcome.get("exception_info") or {}) is None
    return Failure(
        type=expectation.type,
        column=column,
        severity=expectation.severity,
        observed=observed,
        unexpected_percent=result.get("unexpected_percent"),
        by_row=checked and bool(result.get("unexpected_count")),
        message=f"{column or 'table'}: {expectation.type} — {observed}",
        position=position,
    )


def _column(expectation: Expectation) -> str | None:
    kwargs = expectation.kwargs
    names = kwargs.get("column") or kwargs.get("column_list") or _pair(kwargs)
    return names if isinstance(names, str) or names is None else ", ".join(names)


def _observed(outcome: Mapping[str, Any], expectation: Expectation) -> str:
    result = outcome["result"]
    exception = _exception(outcome.get("exception_info") or {})
    if exception:
        return f"could not be checked: {exception}"
    if result.get("unexpected_percent") is not None:
        return _rows_at_fault(expectation, result)
    met = outcome["success"]
    value = result.get("observed_value")
    if value is None:
        return "as expected" if met else f"observed something else{_allowed(expectation.kwargs)}"
    found = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"observed {found}{'' if met else _allowed(expectation.kwargs)}"


def _pair(kwargs: Mapping[str, Any]) -> list[str] | None:
    pair = [str(kwargs[each]) for each in ("column_A", "column_B") if each in kwargs]
    return pair or None


def _rows_at_fault(expectation: Expectation, result: Mapping[str, Any]) -> str:
    allowed = f"allowed {100 * (1 - float(expectation.kwargs.get('mostly') or 1)):.3g} %"
    share = f"{result['unexpected_percent']:.3g} %"
    if expectation.type == "expect_column_values_to_not_be_null":
        return f"{share} null, {allowed}"
    values = dict.fromkeys(map(repr, result.get("partial_unexpected_list") or []))
    examples = ", ".join(list(values)[:_EXAMPLES])
    return f"{share} unexpected{f' ({examples})' if examples else ''}, {allowed}"


def _allowed(kwargs: Mapping[str, Any]) -> str:
    bounds = {key: value for key, value in kwargs.items() if not key.startswith("column") or key == "columns"}
    text = ", ".join(f"{key} {value}" for key, value in bounds.items() if value is not None)
    return f", allowed {text}"[:300] if text else ""


def _exception(info: Mapping[str, Any]) -> str | None:
    """The first message of an ``exception_info``, which is one exception or one for each metric."""
    each = (
        [info]
        if "raised_exception" in info
        else [value for value in info.values() if isinstance(value, dict)]
    )
    messages = [str(one.get("exception_message")) for one in each if one.get("raised_exception")]
    return messages[0].strip().splitlines()[0][:300] if messages else None


class _quiet(warnings.catch_warnings):  # noqa: N801 - used like the function it extends
    """No warning about the library's own code, and never its usage statistics."""

    def __enter__(self) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "false"
        super().__enter__()
        warnings.filterwarnings("ignore", module=r"great_expectations\.|marshmallow|altair")


def _import_gx() -> Any:
    try:
        import great_expectations
        import great_expectations.expectations
    except ImportError as error:
        raise MissingExtra.of("great_expectations", "gx") from error
    return great_expectations
