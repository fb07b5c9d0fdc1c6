"""A trained model of any supported library, logged to MLflow in a fraction of a second.

MLflow would find out a model's requirements by loading it in a new process (3 s); they are given instead:
the flavour's own defaults and the installed versions of what the model's input and its parts come from.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import logging
import site
import sys
import sysconfig
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError, MissingExtra, UserCodeError

if TYPE_CHECKING:
    import pandas as pd

FLAVORS = {
    "sklearn": "mlflow.sklearn",
    "xgboost": "mlflow.xgboost",
    "lightgbm": "mlflow.lightgbm",
    "catboost": "mlflow.catboost",
    "torch": "mlflow.pytorch",
    "keras": "mlflow.keras",
    "tensorflow": "mlflow.tensorflow",
    "statsmodels": "mlflow.statsmodels",
    "prophet": "mlflow.prophet",
    "onnx": "mlflow.onnx",
    "mlflow": "mlflow.pyfunc",
}
"""The MLflow module for a model whose class, or a base of it, comes from a package."""

_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""By package, where the name differs and the packages' metadata need not be read for it."""

_EXAMPLE_ROWS = 3
_SEEN_ROWS = 10_000
_SIGNATURE_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModel:
    """A model that is kept in MLflow: its URI and the flavour it was logged with (``None``: by the user)."""

    model_uri: str
    flavor: str | None


def flavor_of(model: object, prediction_method: str = "predict") -> str:
    """The MLflow module that logs ``model``: that of the most specific class that a known package defines.

    Probabilities are served through scikit-learn's interface, which the other libraries' classifiers share.

    :raises UserCodeError: no flavour fits.
    :raises ConfigError: the flavour has no ``predict_proba``.
    """
    packages = [each.__module__.partition(".")[0] for each in type(model).__mro__]
    known = [each for each in packages if each in FLAVORS]
    if not known:
        raise UserCodeError(
            f"no MLflow flavour fits a {type(model).__module__}.{type(model).__qualname__}",
            where="the model that the entrypoint returned",
            allowed=f"a model of {', '.join(sorted({*FLAVORS} - {'mlflow'}))}, "
            "an mlflow.pyfunc.PythonModel, or the ModelInfo of a model that it logged itself",
            remedy="Wrap the model in an mlflow.pyfunc.PythonModel",
        )
    if prediction_method == "predict":
        return FLAVORS[known[0]]
    if "sklearn" in known and hasattr(model, prediction_method):
        return FLAVORS["sklearn"]
    raise ConfigError(
        f"train.prediction_method is {prediction_method}, which this model does not have",
        where="train.prediction_method",
        found=f"a {type(model).__module__}.{type(model).__qualname__}",
        allowed="predict; predict_proba for classifiers with scikit-learn's interface",
        remedy="Leave prediction_method out, or return a classifier that has predict_proba",
    )


def log_model(
    model: object,
    *,
    inputs: pd.DataFrame,
    prediction_method: str = "predict",
    user_module: ModuleType | None = None,
    sensitive: Collection[str] = (),
) -> LoggedModel:
    """Keep ``model`` in the active MLflow run.

    :param inputs: the features that it was trained on; signature and input example are taken from them.
    :param sensitive: columns of which the input example shows only the most common value.
    :param user_module: where the entrypoint lives. Unless it is installed, its classes and functions are
        stored with the model, which can then be loaded where the user's code is not.
    """
    from mlflow.models.model import ModelInfo

    if isinstance(model, ModelInfo):
        return LoggedModel(model_uri=model.model_uri, flavor=None)
    name = flavor_of(model, prediction_method)
    flavor = _load_flavor(name)
    with stored_by_value(user_module), _without_pickle_advice():
        arguments = _arguments(name, flavor, model, inputs, prediction_method, user_module, sensitive)
        info = flavor.log_model(**arguments, name="model")
    return LoggedModel(model_uri=info.model_uri, flavor=name)


def save_model(
    model: object,
    path: str,
    *,
    inputs: pd.DataFrame,
    prediction_method: str = "predict",
    user_module: ModuleType | None = None,
) -> str:
    """The URI of ``model`` as :func:`log_model` would keep it, in a new folder at ``path`` instead.

    One that the user's code has logged itself is not saved again: its own URI.
    """
    from mlflow.models.model import ModelInfo

    if isinstance(model, ModelInfo):
        return str(model.model_uri)
    name = flavor_of(model, prediction_method)
    flavor = _load_flavor(name)
    with stored_by_value(user_module), _without_pickle_advice():
        arguments = _arguments(name, flavor, model, inputs, prediction_method, user_module)
        flavor.save_model(**arguments, path=path)
    return path


def _load_flavor(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra.of(str(error.name or name), "mlflow") from error


def _arguments(
    name: str,
    flavor: Any,
    model: object,
    inputs: pd.DataFrame,
    prediction_method: str,
    user_module: ModuleType | None,
    sensitive: Collection[str] = (),
) -> dict[str, Any]:
    """What the flavour's ``log_model`` and ``save_model`` are both given."""
    arguments: dict[str, Any] = {"python_model" if name == "mlflow.pyfunc" else _argument(flavor): model}
    requirements_of: dict[str, Any] = {}
    if name == "mlflow.sklearn":
        # The safe format of MLflow's default (skops) refuses scikit-learn's own trees and any user function.
        arguments |= {"pyfunc_predict_fn": prediction_method, "serialization_format": "cloudpickle"}
        requirements_of = {"include_cloudpickle": True}
    inputs = inputs[_used(model, list(inputs.columns))]
    return {
        **arguments,
        "signature": _signature(model, inputs, prediction_method),
        "input_example": _example(inputs, sensitive),
        "pip_requirements": _requirements(
            flavor.get_default_pip_requirements(**requirements_of), _parts(model) | _imports(user_module)
        ),
    }


def _used(model: object, columns: list[str]) -> list[str]:
    """The columns that the model says it was fitted on, if they are among ``columns``, else all."""
    fitted = list(getattr(model, "feature_names_in_", columns))
    return fitted if set(fitted) <= set(columns) else columns


def _example(inputs: pd.DataFrame, sensitive: Collection[str]) -> pd.DataFrame:
    """A few rows, in which a sensitive column tells nothing of anybody: it has its most common value."""
    rows = inputs.head(_EXAMPLE_ROWS)
    for name in rows.columns.intersection(list(sensitive)):
        seen = inputs[name].dropna().head(_SEEN_ROWS)
        if len(seen):
            texts = seen.map(repr)  # of values that may be lists
            common = seen[texts == texts.mode()[0]].head(1)
            rows = rows.assign(**{name: common.take([0] * len(rows)).array})
    return rows


def _signature(model: object, inputs: pd.DataFrame, prediction_method: str) -> Any:
    """Inputs as they are in the data; outputs only of models that predict from a frame as it is."""
    from mlflow.models import infer_signature

    predict = getattr(model, prediction_method, None)
    if predict is None or not hasattr(model, "fit"):
        return infer_signature(inputs)
    try:
        return infer_signature(inputs, predict(inputs.head(_SIGNATURE_ROWS)))
    except Exception as error:
        raise UserCodeError(
            "the model cannot predict on the features it was trained with",
            where="the model that the entrypoint returned",
            found=f"{type(error).__name__}: {error}",
            remedy="Put the encoding of the features into the model, for example in a scikit-learn Pipeline",
        ) from error


def _argument(flavor: ModuleType) -> str:
    """The name of the model's parameter, the first of each flavour's ``log_model``."""
    import inspect

    return next(iter(inspect.signature(flavor.log_model).parameters))


def _requirements(defaults: list[str], packages: Collection[str] = ()) -> list[str]:
    """``defaults`` and the installed version of whatever else the model needs to be loaded and fed."""
    named = {each.split("=")[0].split("<")[0].split(">")[0].strip().lower() for each in defaults}
    known = {"numpy", "pandas", *filter(None, map(_distribution, packages))}
    pinned = [f"{each}=={importlib.metadata.version(each)}" for each in sorted(known - named)]
    return [*defaults, *pinned]


def _parts(model: object) -> set[str]:
    """The packages that the model, the estimators inside it and their functions come from."""
    get_params = getattr(model, "get_params", None)
    inside = get_params(deep=True).values() if callable(get_params) and hasattr(model, "fit") else ()
    return {_package(each) for each in (model, *inside)}


def _imports(user_module: ModuleType | None) -> set[str]:
    """The packages that the user's modules import, as far as they are stored with the model."""
    top = user_module.__name__.partition(".")[0] if user_module else ""
    package = sys.modules.get(top)
    if package is None or _is_installed(package):
        return set()
    modules = [each for name, each in sys.modules.items() if name == top or name.startswith(f"{top}.")]
    return {_package(each) for module in modules for each in vars(module).values()}


def _package(thing: object) -> str:
    if isinstance(thing, ModuleType):
        return thing.__name__.partition(".")[0]
    maker = thing if isinstance(thing, (type, FunctionType, BuiltinFunctionType)) else type(thing)
    return (maker.__module__ or "").partition(".")[0]


def _distribution(package: str) -> str | None:
    """The installed distribution that ``package`` comes from; none for Python's own, ours and the user's."""
    if package in ("", "mlretrain", "__main__") or package in sys.stdlib_module_names:
        return None
    name = _DISTRIBUTIONS.get(package, package)
    try:
        return importlib.metadata.metadata(name)["Name"].lower()
    except importlib.metadata.PackageNotFoundError:
        found = importlib.metadata.packages_distributions().get(package, ())
        return found[0].lower() if found else None


@contextlib.contextmanager
def stored_by_value(module: ModuleType | None) -> Iterator[None]:
    """Let cloudpickle store what the module's top-level package defines, unless it is installed."""
    package = sys.modules.get(module.__name__.partition(".")[0]) if module else None
    if package is None or _is_installed(package):
        yield
        return
    cloudpickle: Any = importlib.import_module("cloudpickle")

    cloudpickle.register_pickle_by_value(package)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(package)


def _is_installed(package: ModuleType) -> bool:
    roots = {sysconfig.get_path("stdlib"), *site.getsitepackages(), site.getusersitepackages()}
    places = [package.__file__] if package.__file__ else list(getattr(package, "__path__", []))
    return any(place.startswith(root) for place in places for root in roots)


@contextlib.contextmanager
def _without_pickle_advice() -> Iterator[None]:
    """Silence MLflow's advice to use skops, which the caller cannot follow."""
    logger = logging.getLogger("mlflow.sklearn")

    def is_news(record: logging.LogRecord) -> bool:
        return "pickle or cloudpickle format" not in record.getMessage()

    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)
