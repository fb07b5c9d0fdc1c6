"""Who scores a row: the same on every machine and in every year, in the shares that were ordered."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from mlretrain.batch.share import COLUMN, copied, served, share_sql
from mlretrain.data.read import connect


def shares(query: str, *columns: str) -> list[int]:
    with connect() as con:
        relation = con.sql(query).select(share_sql(columns))
        assert relation.columns == [COLUMN]
        return [row[0] for row in relation.fetchall()]


def test_a_share_is_md5s_low_half_whatever_reads_the_row() -> None:
    found = shares("SELECT 7 AS id, 'it''s' AS \"na\"\"me\", NULL AS none", "id", 'na"me', "none")

    low = hashlib.md5(b"7\x1fit's\x1f\x00", usedforsecurity=False).digest()
    known = {int.from_bytes(low[:8], order) % 10_000 for order in ("little", "big")}
    known |= {int.from_bytes(low[8:], order) % 10_000 for order in ("little", "big")}
    assert set(found) <= known


def test_every_row_has_one_version_in_the_shares_that_were_ordered() -> None:
    numbers = np.array(shares("SELECT i AS id FROM range(100000) AS t(i)", "id"))
    found = dict(served(numbers, {"9": 70, "10": 30, "11": 0}))

    assert list(found) == ["9", "10"]
    assert sorted(np.concatenate(list(found.values()))) == list(range(100_000))
    assert len(found["10"]) == pytest.approx(30_000, rel=0.03)


def test_copies_have_nothing_to_do_with_who_serves() -> None:
    numbers = np.array(shares("SELECT i AS id FROM range(100000) AS t(i)", "id"))
    mirrored = copied(numbers, 20)

    assert len(mirrored) == pytest.approx(20_000, rel=0.03)
    by_canary = dict(served(numbers[mirrored], {"1": 10, "2": 90}))["1"]
    assert len(by_canary) == pytest.approx(2_000, rel=0.1)
