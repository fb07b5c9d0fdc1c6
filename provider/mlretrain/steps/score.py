"""The score step: every row of a dataset answered by the versions that serve, partition by partition.

A job that is killed leaves whole partitions and no half ones; the next one goes on with those that are
missing. Readers wait for ``_SUCCESS``, or read partitions as they appear.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlretrain.batch.manifest import (
    Manifest,
    Success,
    finished,
    has_leftovers,
    is_done,
    read_manifest,
    remove_leftovers,
    write_manifest,
)
from mlretrain.batch.output import SUCCESS, Output
from mlretrain.batch.panel import Panel, load_panel
from mlretrain.batch.partitions import Partition, Source
from mlretrain.batch.tally import tally_name, write_tallies
from mlretrain.batch.writer import Columns, PartitionWriter
from mlretrain.data.dataset import Dataset, read_dataset
from mlretrain.errors import ContractError, InvalidInput
from mlretrain.ports import Traffic
from mlretrain.runtime.store import open_store
from mlretrain.runtime.tracking import tracking
from mlretrain.wire import digest, from_wire, parse_time, pretty, to_wire

if TYPE_CHECKING:
    from mlretrain.runtime.context import StepContext

MEMORY = "1GB"
FORMAT = 1
"""Of what is written: another one is scored again."""

PROBED_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to score, and where to put it; who scores is a ``frozen`` fact: ``{traffic, versions, at}``.

    :param model: the registered model.
    :param output_uri: the folder of the scores.
    :param key: the columns that say which version scores a row; none: all of them.
    :param columns: the columns that are kept beside the prediction, the key being one always; ``None``: all.
    :param partition_by: a column; ``None``: a partition is a file of the dataset.
    :param tallies_uri: the folder in which it is kept what versions did.
    :param batch_rows: rows in memory at a time.
    """

    dataset_uri: str
    model: str
    output_uri: str
    key: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    partition_by: str | None = None
    tallies_uri: str | None = None
    batch_rows: int = 20_000


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """Score what is not scored yet, and say so in ``_SUCCESS``.

    :raises InvalidInput: data or a model cannot be used, or a version that serves fails on rows of it. One
        that is only mirrored may fail: that is counted.
    """
    from mlretrain.data.read import connect

    dataset = read_dataset(config.dataset_uri, ctx.env)
    with tracking(ctx.env), tempfile.TemporaryDirectory() as scratch, connect(MEMORY) as con:
        source = Source(con, dataset, key=config.key, partition_by=config.partition_by, env=ctx.env)
        with ctx.phase("load"):
            panel = _panel(config, ctx, source, scratch)
        scoring = Scoring(config=config, ctx=ctx, dataset=dataset, source=source, panel=panel)
        try:
            return scoring.run()
        finally:
            scoring.tell()


def _panel(config: Config, ctx: StepContext, source: Source, scratch: str) -> Panel:
    frozen = ctx.request.frozen
    if "traffic" not in frozen or "versions" not in frozen:
        raise ContractError("the request does not say who scores", where="frozen", found=", ".join(frozen))
    traffic = from_wire(Traffic, dict(frozen["traffic"]))
    features = [name for name in source.types if name not in config.key]
    return load_panel(config.model, traffic, frozen["versions"], features, scratch)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scoring:
    """One job's work."""

    config: Config
    ctx: StepContext
    dataset: Dataset
    source: Source
    panel: Panel

    def run(self) -> dict[str, Any]:
        """The step's result."""
        output = Output(self.config.output_uri, self.ctx.env)
        with self.ctx.phase("plan"):
            columns = self._columns()
            partitions = self.source.partitions()
            known = {each.path: self._known(output, each, columns) for each in partitions}
        wanted = {each.path for each in partitions}
        missing = [each for each in partitions if known[each.path] is None]
        if missing or has_leftovers(output, self.source.window, wanted):
            output.remove(SUCCESS)
            output.sweep()
            remove_leftovers(output, self.source.window, wanted)
        with self.ctx.phase("score"):
            known |= self._score(output, missing, columns)
        manifests = [each for path in sorted(known) if (each := known[path]) is not None]
        success = self._success(manifests, columns)
        if not finished(output, success):
            output.write_json(SUCCESS, to_wire(success))
        return {
            "output_uri": output.uri,
            "success_uri": f"{output.uri}/{SUCCESS}",
            "rows": success.rows,
            "partitions": len(manifests),
            "scored": len(missing),
            "kept": len(manifests) - len(missing),
            "generation": success.generation,
            "versions": to_wire(success.versions),
            "schema": list(success.schema),
            "dataset_fingerprint": self.dataset.fingerprint,
            "manifest_uri": self.ctx.write_output("success", "success.json", pretty(success)),
        }

    def tell(self) -> None:
        """Keep what versions have done so far, where the serving target looks for it."""
        if self.config.tallies_uri is None or not self.panel.tallies:
            return
        request = self.ctx.request
        begun = parse_time(str(request.frozen["at"]), "frozen.at")
        job = f"{request.job or request.key}-{self.ctx.env.get('MLRETRAIN_ATTEMPT', '1')}"
        store = open_store(self.config.tallies_uri, self.ctx.env)
        write_tallies(store, tally_name(begun, job), self.panel.tallies)

    def _columns(self) -> Columns:
        """What a row of the scores has; every version is asked once, so that all partitions are alike."""
        from mlretrain.data.frames import to_frame

        sample = self.source.sample(PROBED_ROWS)
        rows = to_frame(_relation(sample))
        said: list[Any] = []
        for version in self.panel.models:
            try:
                said += self.panel.probe(version, rows)
            except InvalidInput:
                if version in self.panel.traffic.served:
                    self.panel.tally(version).failed(len(rows))
                    raise
        kept = self.config.columns
        chosen = [name for name in self.source.types if kept is None or name in (*self.config.key, *kept)]
        return Columns.of(sample.schema, chosen, kept or (), said, where=self.dataset.uri)

    def _known(self, output: Output, partition: Partition, columns: Columns) -> Manifest | None:
        manifest = read_manifest(output, partition.path)
        return manifest if is_done(output, manifest, self._asked(partition, columns)) else None

    def _asked(self, partition: Partition, columns: Columns) -> str:
        traffic = self.panel.traffic
        return digest(
            {
                "format": FORMAT,
                "input": partition.input,
                "weights": traffic.served,
                "mirrored": traffic.mirrored,
                "models": self.panel.digests,
                "key": self.config.key,
                "schema": columns.described,
            }
        )

    def _score(
        self, output: Output, partitions: list[Partition], columns: Columns
    ) -> dict[str, Manifest | None]:
        done: dict[str, Manifest | None] = {}
        total = sum(each.rows for each in partitions)
        rows = 0
        for partition in partitions:
            done[partition.path] = self._partition(output, partition, columns)
            rows += partition.rows
            self.tell()
            self.ctx.progress(rows, total, f"rows scored, {partition.path}")
        return done

    def _partition(self, output: Output, partition: Partition, columns: Columns) -> Manifest:
        with PartitionWriter(output, partition.path, columns) as writer:
            for table, rows, shares in self._batches(partition):
                at = datetime.now(UTC)
                served = self.panel.served(rows, shares)
                writer.served(table, served, at)
                mirrored = self.panel.mirrored(rows, shares, served)
                if mirrored is not None:
                    writer.mirrored(table, mirrored, at)
            manifest = Manifest(
                asked=self._asked(partition, columns),
                input=partition.input,
                window=self.source.window,
                versions=writer.versions,
                schema=columns.described,
                **writer.publish(),
            )
        write_manifest(output, manifest)
        return manifest

    def _batches(self, partition: Partition) -> Iterator[tuple[Any, Any, Any]]:
        """Arrow rows, the same as a frame, and their shares."""
        from mlretrain.data.frames import to_frame

        for table in self.source.batches(partition, self.config.batch_rows):
            given = table.select(table.column_names[:-1])
            yield given, to_frame(_relation(given)), table.column(table.num_columns - 1).to_numpy()

    def _success(self, manifests: list[Manifest], columns: Columns) -> Success:
        request, dataset, traffic = self.ctx.request, self.dataset, self.panel.traffic
        return Success(
            pipeline=request.pipeline,
            model=self.config.model,
            run_id=request.run_id,
            window_end=request.window_end,
            written_at=datetime.now(UTC),
            generation=traffic.generation,
            rows=sum(each.served.rows for each in manifests),
            schema=columns.described,
            versions={
                version: {
                    "weight": traffic.weights.get(version, 0),
                    "mirrored": traffic.mirrored.get(version, 0),
                    "rows": sum(each.versions.get(version, 0) for each in manifests),
                    "model_sha256": sha256,
                }
                for version, sha256 in self.panel.digests.items()
            },
            dataset={
                "uri": dataset.uri,
                "dataset_uri": self.config.dataset_uri,
                "fingerprint": dataset.fingerprint,
                "start": dataset.start,
                "end": dataset.end,
            },
            partitions=tuple(each.served for each in manifests),
        )


def _relation(table: Any) -> Any:
    """An Arrow table for DuckDB, on a connection of its own: another one is being read from."""
    import duckdb

    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    return con.from_arrow(table)
