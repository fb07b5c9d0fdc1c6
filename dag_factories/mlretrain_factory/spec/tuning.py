"""The search for hyperparameters: where it looks, how often, and what it wants."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mlretrain.metrics import HIGHER_IS_BETTER
from mlretrain_factory.spec.evaluation import Metric
from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Section, fault

LARGEST_GRID = 10_000
Scalar = str | int | float | bool | None


def _check_range(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 2 and all(_is_number(bound) for bound in value):
        return tuple(value)
    raise fault("not a range", remedy="Write `[lowest, highest]`.", allowed="a list of two numbers")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class ParameterSpec(Section):
    """Where one hyperparameter is searched: whole numbers, numbers, or a choice of values."""

    integers: Annotated[tuple[int, int], BeforeValidator(_check_range)] | None = Field(
        default=None, alias="int", description="Whole numbers `[lowest, highest]`, both included."
    )
    numbers: Annotated[tuple[float, float], BeforeValidator(_check_range)] | None = Field(
        default=None, alias="float", description="Numbers `[lowest, highest]`."
    )
    choice: tuple[Scalar, ...] | None = Field(default=None, min_length=1, description="These values.")
    step: float | None = Field(default=None, gt=0, description="Only every so many; left out: all.")
    log: bool = Field(default=False, description="Search by orders of magnitude.")

    @property
    def kind(self) -> str:
        """``int``, ``float`` or ``choice``."""
        return "int" if self.integers else "float" if self.numbers else "choice"

    @property
    def count(self) -> int | None:
        """How many values there are; ``None``: no end of them."""
        if self.choice is not None:
            return len(self.choice)
        low, high = self.integers or self.numbers or (0, 0)
        step = self.step or (1 if self.integers else None)
        return int((Decimal(str(high)) - Decimal(str(low))) / Decimal(str(step))) + 1 if step else None

    @model_validator(mode="after")
    def _is_one_space(self) -> ParameterSpec:
        values = {"int": self.integers, "float": self.numbers, "choice": self.choice}
        given = [kind for kind, value in values.items() if value is not None]
        if len(given) != 1:
            raise fault(
                "a parameter is searched in one kind of values",
                remedy="Give exactly one.",
                found=" and ".join(given) or None,
                allowed=", ".join(values),
            )
        if self.choice is not None:
            self._check_choice(self.choice)
        else:
            self._check_bounds(*(self.integers or self.numbers or ()))
        return self

    def _check_choice(self, choice: tuple[Scalar, ...]) -> None:
        if len({repr(each) for each in choice}) < len(choice):
            raise fault("a value is there twice", at=("choice",), remedy="Remove one.")
        if self.log or self.step is not None:
            given = "log" if self.log else "step"
            raise fault(f"a choice has no `{given}`", at=(given,), remedy="Remove it.")

    def _check_bounds(self, low: float, high: float) -> None:
        found = f"{low:g} and {high:g}"
        if low >= high:
            remedy = "Write the lower one first; a single value belongs into `train.params`."
            raise fault("the range holds nothing", at=(self.kind,), remedy=remedy, found=found)
        if self.log and low <= 0:
            remedy = "Raise the lowest, or remove `log`."
            raise fault("`log` needs numbers above 0", at=(self.kind,), remedy=remedy, found=found)
        if self.log and self.step is not None:
            raise fault("`log` and `step` exclude each other", at=("step",), remedy="Remove one.")
        if self.step is not None and self.integers and not self.step.is_integer():
            raise fault("whole numbers have whole steps", at=("step",), remedy="Write such as `2`.")
        if self.step is not None and self.step > high - low:
            remedy = "Lower it."
            raise fault("the step is larger than the range", at=("step",), remedy=remedy, found=found)


class StudyStorageSpec(Section):
    """A database that keeps the study."""

    conn_id: str = Field(description="Airflow connection of a database that Optuna can use.")


class TuningSpec(Section):
    """Trials before the training; the best one's parameters go into it."""

    space: dict[str, ParameterSpec] = Field(
        min_length=1, description="Where each parameter is searched, such as `{max_depth: {int: [3, 9]}}`."
    )
    trials: int = Field(ge=1, le=10_000, description="How many trials in all.")
    parallelism: int = Field(default=1, ge=1, le=256, description="How many at a time.")
    sampler: Literal["tpe", "random", "cmaes", "grid"] = Field(
        default="tpe", description="How the next trial is chosen; `grid` tries every combination."
    )
    metric: Metric | None = Field(
        default=None, description="What a trial is judged by; left out: the first of `evaluate.metrics`."
    )
    direction: Literal["maximize", "minimize"] | None = Field(
        default=None, description="Which way is better; left out: the metric's own."
    )
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of the training rows that trials are judged on."
    )
    timeout: Duration | None = Field(
        default=None, description="How long one trial may take; left out: no limit."
    )
    storage: StudyStorageSpec | None = Field(
        default=None, description="A database for the study; left out: the artifact store."
    )

    @model_validator(mode="after")
    def _can_be_searched(self) -> TuningSpec:
        if self.parallelism > self.trials:
            raise fault(
                "more trials at a time than trials",
                at=("parallelism",),
                remedy="Lower it, or raise `trials`.",
                found=f"{self.parallelism} of {self.trials}",
            )
        if self.sampler == "grid":
            self._check_grid()
        for name, parameter in self.space.items():
            if self.sampler == "cmaes" and parameter.choice is not None:
                remedy = "Choose the sampler `tpe`, or search a range."
                raise fault("`cmaes` searches numbers only", at=("space", name), remedy=remedy)
        if self.metric is not None:
            self._check_direction(self.metric)
        return self

    def _check_grid(self) -> None:
        combinations = 1
        for name, parameter in self.space.items():
            if parameter.count is None:
                remedy = "Add `step`, or give a `choice`."
                raise fault("a grid needs countable values", at=("space", name), remedy=remedy)
            combinations *= parameter.count
        if combinations > LARGEST_GRID:
            raise fault(
                "the grid is too large",
                at=("space",),
                remedy="Widen the steps, or choose another sampler.",
                found=f"{combinations} combinations",
                allowed=f"up to {LARGEST_GRID}",
            )

    def _check_direction(self, metric: str) -> None:
        own = direction_of(metric)
        if self.direction not in (None, own):
            raise fault(
                f"the wrong way for `{metric}`",
                at=("direction",),
                remedy="Remove `direction`.",
                found=f"'{self.direction}'",
                allowed=own,
            )


def direction_of(metric: str) -> str:
    """``maximize`` or ``minimize``, as the metric is better."""
    return "maximize" if HIGHER_IS_BETTER[metric] else "minimize"
