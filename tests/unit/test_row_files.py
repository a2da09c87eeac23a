from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textremove.onray.row_files import RowFiles
from textremove.onray.windows import Order, WindowReader
from textremove.storage import open_store

COUNTS = (130, 7, 64)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> RowFiles:
    """Files whose only column says which row of all it is."""
    folder, first, names = tmp_path_factory.mktemp("rows"), 0, []
    for k, count in enumerate(COUNTS):
        names.append(str(folder / f"{k}.parquet"))
        values = [str(row).encode() for row in range(first, first + count)]
        pq.write_table(pa.table({"value": values, "other": values}), names[-1], row_group_size=48)
        first += count
    return RowFiles(store=open_store(folder), files=tuple(names), counts=COUNTS, columns=("value",))


def test_rows_come_in_the_order_asked_for(rows: RowFiles) -> None:
    table = rows.read(0, [129, 3, 3, 50])
    assert table.column_names == ["value"]
    assert table["value"].to_pylist() == [b"129", b"3", b"3", b"50"]


@pytest.mark.parametrize("limit", [1, 64, 130, 131, 137, 150, 201, 1000])
def test_the_first_rows_alone(rows: RowFiles, limit: int) -> None:
    first = rows.first(limit)
    assert first.num_rows == min(limit, sum(COUNTS))
    assert len(first.files) == len(first.counts)
    read = [
        value
        for piece in first.pieces()
        for value in first.read(piece.file, range(piece.start, piece.start + piece.length))[
            "value"
        ].to_pylist()
    ]
    assert read == [str(row).encode() for row in range(first.num_rows)]


def test_no_limit_is_all(rows: RowFiles) -> None:
    assert rows.first(0) == rows


def test_a_window_numbers_its_rows_and_an_epoch_has_those_within_the_limit(rows: RowFiles) -> None:
    reader = WindowReader(rows.first(140), Order(num_rows=140, batch_size=10, seed=0))
    table = pa.concat_tables([reader.read(3, window) for window in range(reader.num_windows)])
    assert [str(number).encode() for number in table["number"].to_pylist()] == table["value"].to_pylist()
    assert sorted(table["number"].to_pylist()) == list(range(140))
    assert set(table["epoch"].to_pylist()) == {3}
