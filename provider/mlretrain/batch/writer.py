"""One partition on its way to Parquet: the rows as they were read, the prediction, who made it and when.

The columns are those of the prediction log that ``mlretrain serve`` writes, so that whatever reads the one
reads the other; rows of a batch came alone, so there is no ``request_id``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlretrain.batch.output import MIRRORED, Output, Published
from mlretrain.data.time_window import check_column
from mlretrain.errors import InvalidInput
from mlretrain.serving.columns import RESERVED, to_array

if TYPE_CHECKING:
    import pyarrow as pa

    from mlretrain.batch.panel import Answers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """The columns of scores.

    :param kept: columns of the input; one with a name of the log's own becomes ``input_<name>``.
    :param schema: of what is written.
    """

    kept: tuple[str, ...]
    schema: pa.Schema

    @classmethod
    def of(
        cls, given: pa.Schema, chosen: Sequence[str], named: Iterable[str], said: Sequence[Any], *, where: str
    ) -> Columns:
        """Of what versions ``said``, and of the ``chosen`` columns.

        :param named: columns that somebody has asked for. Raises :class:`InvalidInput` if one is missing.
        """
        import pandas as pd
        import pyarrow as pa

        for name in named:
            check_column(name, given.names, where)
        found = to_array(pd.Series(said, dtype=object), None).type
        fields = [
            *(pa.field(_written(name), given.field(name).type) for name in chosen),
            pa.field("prediction", pa.float64() if pa.types.is_null(found) else found),
            pa.field("model_version", pa.string()),
            pa.field("served_at", pa.timestamp("us", "UTC")),
        ]
        return cls(kept=tuple(chosen), schema=pa.schema(fields))

    @property
    def described(self) -> tuple[dict[str, str], ...]:
        """Names and types."""
        return tuple({"name": each.name, "type": str(each.type)} for each in self.schema)

    def table(self, rows: pa.Table, answers: Answers, at: datetime) -> pa.Table:
        """The ``rows`` that were answered, with the answers."""
        import numpy as np
        import pandas as pd
        import pyarrow as pa

        known = self.schema.field("prediction").type
        said = to_array(pd.Series(answers.predictions, dtype=object), known)
        if said.type != known:
            raise InvalidInput(
                "predictions are of another kind than those of the first rows",
                found=f"{said.type} by version {', '.join(sorted(set(answers.versions)))}",
                allowed=str(known),
            )
        chosen = rows.select(list(self.kept))
        if len(answers.rows) < rows.num_rows:
            chosen = chosen.take(pa.array(answers.rows))
        count = len(answers.rows)
        own = [
            said,
            pa.array(answers.versions, pa.string()),
            pa.array(np.full(count, at), pa.timestamp("us", "UTC")),
        ]
        return pa.Table.from_arrays([*chosen.columns, *own], schema=self.schema)


class PartitionWriter:
    """Writes what was served, and what mirrored versions said, beside where it is to appear."""

    def __init__(self, output: Output, path: str, columns: Columns) -> None:
        self._output, self._columns = output, columns
        self._paths = {"served": path, "mirrored": f"{MIRRORED}/{path}"}
        self._writers: dict[str, tuple[Any, Path]] = {}
        self._rows: Counter[str] = Counter()
        self._open = ExitStack()
        self.versions: Counter[str] = Counter()
        """Rows by version."""

    def __enter__(self) -> PartitionWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def served(self, rows: pa.Table, answers: Answers, at: datetime) -> None:
        """Write a batch that was served."""
        self._write("served", rows, answers, at)
        self.versions.update(answers.versions)

    def mirrored(self, rows: pa.Table, answers: Answers, at: datetime) -> None:
        """Write what mirrored versions said of the batch."""
        self._write("mirrored", rows, answers, at)
        self.versions.update(answers.versions)

    def publish(self) -> dict[str, Published]:
        """Let everything appear; what mirrored versions said before goes if none says anything now."""
        found: dict[str, Published] = {}
        for name, path in self._paths.items():
            if name in self._writers:
                writer, staged = self._writers[name]
                writer.close()
                found[name] = self._output.publish(staged, path, self._rows[name])
            else:
                self._output.remove(path)
        return found

    def _write(self, name: str, rows: pa.Table, answers: Answers, at: datetime) -> None:
        import pyarrow.parquet as pq

        if name not in self._writers:
            staged = self._open.enter_context(self._output.staged(self._paths[name]))
            writer = self._open.enter_context(
                pq.ParquetWriter(staged, self._columns.schema, compression="zstd")
            )
            self._writers[name] = (writer, staged)
        self._writers[name][0].write_table(self._columns.table(rows, answers, at))
        self._rows[name] += len(answers.rows)


def _written(name: str) -> str:
    return f"input_{name}" if name in RESERVED else name
