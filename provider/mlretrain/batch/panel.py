"""The versions that score, loaded and checked, and what they say of rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlretrain.batch.share import copied, served
from mlretrain.batch.tally import Tally
from mlretrain.errors import InvalidInput
from mlretrain.ports import Traffic
from mlretrain.runtime.fingerprint import check, fingerprint, size
from mlretrain.runtime.package import fetch
from mlretrain.runtime.tracking import is_away

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from mlretrain.runtime.models import KeptModel

logger = logging.getLogger("mlretrain")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What versions said of the rows of a batch.

    :param rows: the positions of the rows in the batch.
    :param predictions: one for each of ``rows``, as the prediction log keeps it.
    :param versions: who said it.
    """

    rows: NDArray[Any]
    predictions: Sequence[Any]
    versions: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """Versions of a model.

    :param traffic: who of them scores which share, and who is only compared.
    :param models: what is loaded, by version.
    :param digests: the SHA-256 of each version's files.
    """

    name: str
    traffic: Traffic
    models: Mapping[str, KeptModel]
    digests: Mapping[str, str]
    tallies: dict[str, Tally] = field(default_factory=dict)

    def served(self, rows: pd.DataFrame, shares: NDArray[Any]) -> Answers:
        """Every row's prediction. Raises :class:`InvalidInput` if a version fails."""
        import numpy as np

        predictions = np.empty(len(rows), dtype=object)
        versions = np.empty(len(rows), dtype=object)
        for version, chosen in served(shares, self.traffic.served):
            predictions[chosen] = _objects(self.ask(version, rows, chosen))
            versions[chosen] = version
        return Answers(
            rows=np.arange(len(rows)), predictions=predictions.tolist(), versions=versions.tolist()
        )

    def mirrored(self, rows: pd.DataFrame, shares: NDArray[Any], counted: Answers) -> Answers | None:
        """What mirrored versions say of their share, compared with what was served; one may fail."""
        import numpy as np

        from mlretrain.serving.compare import compare

        found: list[tuple[NDArray[Any], list[Any], str]] = []
        for version, share in self.traffic.mirrored.items():
            chosen = copied(shares, share)
            if not len(chosen):
                continue
            try:
                said = self.ask(version, rows, chosen)
            except InvalidInput as error:
                logger.warning("%s", error)
                continue
            compared = compare([counted.predictions[i] for i in chosen], said, len(chosen))
            self.tally(version).differed(compared)
            found.append((chosen, said, version))
        if not found:
            return None
        return Answers(
            rows=np.concatenate([chosen for chosen, _, _ in found]),
            predictions=[each for _, said, _ in found for each in said],
            versions=[version for chosen, _, version in found for _ in chosen],
        )

    def ask(self, version: str, rows: pd.DataFrame, chosen: NDArray[Any]) -> list[Any]:
        """What a version says of the rows at positions ``chosen``, and how long it takes, counted."""
        asked = rows if len(chosen) == len(rows) else rows.iloc[chosen].reset_index(drop=True)
        start = time.perf_counter()
        try:
            said = self.probe(version, asked)
        except InvalidInput:
            self.tally(version).failed(len(asked))
            raise
        self.tally(version).answered(len(asked), time.perf_counter() - start)
        return said

    def probe(self, version: str, rows: pd.DataFrame) -> list[Any]:
        """What a version says, uncounted. Raises :class:`InvalidInput` if it fails."""
        from mlretrain.serving.columns import to_scalars

        model = self.models[version]
        try:
            answer = model.loaded.predict(model.inputs(rows))
            said = to_scalars(answer, len(rows))
            if len(rows) > 1 and not (hasattr(answer, "__len__") and len(answer) == len(rows)):
                raise ValueError("it does not answer every row")
        except Exception as error:
            if is_away(error):
                raise
            raise InvalidInput(
                f"version {version} cannot score these rows",
                where=f"models:/{self.name}/{version}",
                found=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}",
            ) from error
        return said

    def tally(self, version: str) -> Tally:
        """What a version has done so far."""
        return self.tallies.setdefault(version, Tally())


def load_panel(
    name: str,
    traffic: Traffic,
    versions: Mapping[str, Mapping[str, Any]],
    features: Sequence[str],
    scratch: str | Path,
) -> Panel:
    """The versions that ``traffic`` lets score, checked to be what was registered.

    :param versions: ``{model_uri, tags}`` of each.
    :param features: the columns for a model without a signature.
    :raises InvalidInput: a version's files are not those that were registered.
    """
    import mlflow.pyfunc

    from mlretrain.runtime.models import KeptModel

    models, digests = {}, {}
    for version in sorted({*traffic.served, *traffic.mirrored}, key=int):
        known = versions[version]
        folder = fetch(str(known["model_uri"]), _made(Path(scratch) / version))
        check(folder, known.get("tags") or {}, where=str(known["model_uri"]))
        loaded: Any = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
        models[version] = KeptModel(loaded=loaded, features=features, size=size(folder))
        digests[version] = fingerprint(folder)
    return Panel(name=name, traffic=traffic, models=models, digests=digests)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _objects(values: list[Any]) -> NDArray[Any]:
    import numpy as np

    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
