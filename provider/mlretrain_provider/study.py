"""What a search asks next, decided by what its trials have answered so far and by nothing else.

No state of a sampler is kept: a search that was killed, or that moved to another machine, goes on with the
very question that it would have asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mlretrain.errors import ConfigError, MissingExtra
from mlretrain.wire import digest
from mlretrain_provider.space import LARGEST_GRID, Dimension

if TYPE_CHECKING:
    from types import ModuleType

    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

Sampler = Literal["tpe", "random", "cmaes", "grid"]
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One choice of hyperparameters and what came of it.

    :param number: from 0, in the order in which they were asked.
    :param params: the searched hyperparameters only.
    :param value: the metric of a complete trial.
    :param error: :meth:`mlretrain.errors.MlretrainError.to_wire` of a failed trial.
    """

    number: int
    params: dict[str, Any]
    mlflow_run_id: str
    state: Literal["running", "complete", "failed"] = "running"
    value: float | None = None
    error: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The rules of a search.

    :param seed: of the sampler; each trial draws from this seed and its own number.
    """

    space: tuple[Dimension, ...]
    sampler: Sampler
    direction: Direction
    seed: int = 0

    def total(self, wanted: int) -> int:
        """How many of ``wanted`` trials there are to make: a grid ends, and an empty space has one choice.

        :raises ConfigError: the sampler cannot search this space.
        """
        if not self.space:
            return 1
        if self.sampler != "grid":
            return wanted
        size = math.prod(each.count() for each in self.space)
        if size > LARGEST_GRID:
            raise ConfigError(
                "too large a grid",
                where="space",
                found=f"{size} choices",
                allowed=str(LARGEST_GRID),
                remedy="Use the sampler random or tpe, or fewer values",
            )
        return min(wanted, size)

    def ask(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """The hyperparameters of the next trial, after all of ``trials``, of which some may still run."""
        if self.sampler == "cmaes":
            return self._evolve(trials)
        optuna = import_optuna()
        study = optuna.create_study(direction=self.direction, sampler=self._optuna_sampler(len(trials)))
        study.add_trials([self.frozen(each) for each in trials])
        asked = study.ask(self.distributions())
        return {each.name: each.chosen(asked.params[each.name]) for each in self.space}

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """The best of the complete trials, of equal ones the first."""
        sign = -1 if self.direction == "maximize" else 1
        complete = [each for each in trials if each.value is not None]
        return min(complete, key=lambda each: (sign * (each.value or 0.0), each.number), default=None)

    def frozen(self, trial: Trial, **user_attrs: Any) -> FrozenTrial:
        """``trial`` as Optuna has it."""
        optuna = import_optuna()
        states = optuna.trial.TrialState
        state = {"running": states.RUNNING, "complete": states.COMPLETE, "failed": states.FAIL}[trial.state]
        found: FrozenTrial = optuna.trial.create_trial(
            state=state,
            value=trial.value,
            params={each.name: each.label(trial.params[each.name]) for each in self.space},
            distributions=self.distributions(),
            user_attrs=user_attrs,
        )
        return found

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna has it."""
        return {each.name: _distribution(each) for each in self.space}

    def _optuna_sampler(self, number: int) -> BaseSampler:
        samplers = import_optuna().samplers
        sampler: BaseSampler
        if self.sampler == "grid":
            grid = {each.name: [each.label(value) for value in each.values()] for each in self.space}
            sampler = samplers.GridSampler(grid, seed=self._seed(0))
        elif self.sampler == "random":
            sampler = samplers.RandomSampler(seed=self._seed(number))
        else:
            sampler = samplers.TPESampler(seed=self._seed(number))
        return sampler

    def _seed(self, number: int) -> int:
        return int(digest([self.seed, number], 8), 16)

    def _evolve(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """CMA-ES on the numbers, its generations being the complete trials in their order; choices at random.

        Optuna's own sampler keeps a pickle with each trial. An Airflow worker must not unpickle what jobs may
        write.
        """
        try:
            import cmaes
            import numpy as np
        except ImportError as error:
            raise MissingExtra.of(str(error.name), "tune") from error
        numbers = [each for each in self.space if each.kind != "choice" and each.low < each.high]
        random = np.random.RandomState(self._seed(len(trials)))
        found = {each.name: each.low for each in self.space}
        if numbers:
            bounds = np.tile([0.0, 1.0], (len(numbers), 1))
            optimizer = cmaes.CMA(
                mean=np.full(len(numbers), 0.5), sigma=1 / 6, bounds=bounds, seed=self._seed(0)
            )
            for generation in self._generations(trials, optimizer.population_size):
                optimizer.tell(
                    [
                        (np.array([each.to_unit(trial.params[each.name]) for each in numbers]), loss)
                        for trial, loss in generation
                    ]
                )
            optimizer.reseed_rng(self._seed(len(trials)))
            places = optimizer.ask()
            found |= {each.name: each.from_unit(float(at)) for each, at in zip(numbers, places, strict=True)}
        choices = [each for each in self.space if each.kind == "choice"]
        return found | {each.name: each.choices[random.randint(len(each.choices))] for each in choices}

    def _generations(self, trials: Sequence[Trial], size: int) -> list[list[tuple[Trial, float]]]:
        """The complete trials with their losses, ``size`` by ``size``; those left over wait for more."""
        sign = -1 if self.direction == "maximize" else 1
        told = [(each, sign * each.value) for each in trials if each.value is not None]
        return [told[at : at + size] for at in range(0, len(told) - size + 1, size)]


def import_optuna() -> ModuleType:
    """Optuna, saying no more than what is wrong. Raises :class:`MissingExtra`."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra.of("optuna", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(dimension: Dimension) -> BaseDistribution:
    kinds = import_optuna().distributions
    found: BaseDistribution
    if dimension.kind == "choice":
        found = kinds.CategoricalDistribution(dimension.labels)
    elif dimension.kind == "int":
        found = kinds.IntDistribution(
            int(dimension.low), int(dimension.high), log=dimension.log, step=int(dimension.step or 1)
        )
    else:
        found = kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    return found
