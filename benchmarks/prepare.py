"""prepare_pipe against a bare multiprocessing loop, and its memory as rows double.

Memory and speed are measured in runs of their own: reading the memory of Ray's twenty processes twice a
second took a tenth of a core, and the bare loop has only three to read.

python -m benchmarks.prepare            20,000 rows at 512 px, a quarter of an hour on two cores
python -m benchmarks.prepare --num-rows 4000
"""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import tyro
from PIL import Image

from benchmarks._measure import PeakMemory, write_result
from benchmarks._shards import ROWS_PER_SHARD, first_shards, make_shards
from textremove.onray.cluster import connect
from textremove.onray.prepare import PrepareConfig, prepare


@dataclass(frozen=True, kw_only=True)
class Config:
    """How large.

    Attributes:
        num_rows: Rows of the larger run; the smaller has half.
        resolution: Longest side that examples are resized to.
        num_processes: Processes of both sides.
        work: Where shards and outputs go; the shards are kept.
        rounds: How often both sides are timed, in turn; what counts is the time of all rounds.
        measure: Used by the command itself: one run, in a process of its own.
    """

    num_rows: int = 20_000
    resolution: int = 384
    num_processes: int = 2
    work: Path = Path("runs/benchmarks")
    rounds: int = 2
    measure: str = ""


def main(config: Config) -> None:
    """Measure prepare_pipe against a bare loop that decodes, resizes and encodes the same rows."""
    if config.measure:
        kind, _, rows = config.measure.partition(":")
        print(json.dumps(_RUNS[kind](config, int(rows))))
        return
    half = config.num_rows // 2 // ROWS_PER_SHARD * ROWS_PER_SHARD
    rows = 2 * half
    make_shards(_shards(config, rows), num_rows=rows)
    first_shards(_shards(config, rows), _shards(config, half), num_rows=half)
    half_gib, peak_gib = (_measured(config, "memory", size)["peak_gib"] for size in (half, rows))
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for kind in config.rounds * ("ours", "bare"):
        seconds[kind].append(_measured(config, kind, rows)["seconds"])
    write_result(
        "prepare",
        {
            "rows": rows,
            "resolution": config.resolution,
            "num_processes": config.num_processes,
            "ours_rows_per_second": [round(rows / each, 1) for each in seconds["ours"]],
            "bare_loop_rows_per_second": [round(rows / each, 1) for each in seconds["bare"]],
            "rows_per_second_over_bare_loop": sum(seconds["bare"]) / sum(seconds["ours"]),
            "peak_gib": round(peak_gib, 2),
            "peak_memory_doubled_rows_ratio": peak_gib / half_gib,
        },
    )


def _shards(config: Config, num_rows: int) -> Path:
    return config.work / f"shards-{num_rows}"


def _measured(config: Config, kind: str, num_rows: int) -> dict[str, float]:
    """Does one run in a process of its own, so that memory and imports of the sides do not mix."""
    command = [sys.executable, "-m", "benchmarks.prepare", "--measure", f"{kind}:{num_rows}"]
    command += ["--resolution", str(config.resolution), "--num-processes", str(config.num_processes)]
    done = subprocess.run(
        [*command, "--work", str(config.work)], check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{kind}, {num_rows:,} rows: {result}", flush=True)
    return result


def _memory(config: Config, num_rows: int) -> dict[str, float]:
    with PeakMemory() as memory:
        _ours(config, num_rows)
    return {"peak_gib": memory.peak_bytes / 2**30}


def _ours(config: Config, num_rows: int) -> dict[str, float]:
    shards, out = _shards(config, num_rows), config.work / f"prepared-{num_rows}"
    shutil.rmtree(out, ignore_errors=True)
    with connect(num_cpus=config.num_processes):
        started = time.perf_counter()
        info = prepare(
            PrepareConfig(
                images=f"{shards}/PIPE",
                masks=f"{shards}/PIPE_Masks",
                out=str(out),
                resolution=config.resolution,
            ),
            progress=lambda line: print(line, file=sys.stderr),
        )
        seconds = time.perf_counter() - started
    assert info["rows_read"] == num_rows
    return {"seconds": seconds, "examples_kept": info["examples_kept"]}


def _bare(config: Config, num_rows: int) -> dict[str, float]:
    """Row groups over a pool: decode both photos and the mask, resize, encode; nothing checked or kept."""
    started = time.perf_counter()
    with multiprocessing.Pool(config.num_processes) as pool:
        jobs = list(_row_groups(_shards(config, num_rows), config.resolution))
        total = sum(pool.imap_unordered(_one_group, jobs))
    assert total == num_rows
    return {"seconds": time.perf_counter() - started}


_RUNS = {"memory": _memory, "ours": _ours, "bare": _bare}


def _row_groups(shards: Path, resolution: int) -> Iterator[tuple[Path, Path, int, int]]:
    for path in sorted((shards / "PIPE" / "data").glob("*.parquet")):
        for group in range(pq.ParquetFile(path).num_row_groups):
            yield path, shards / "PIPE_Masks" / "data" / path.name, group, resolution


def _one_group(job: tuple[Path, Path, int, int]) -> int:
    images, masks, group, resolution = job
    size = (resolution, resolution)
    rows = pq.ParquetFile(images).read_row_group(group, columns=["target_img", "source_img"]).to_pylist()
    mask_rows = pq.ParquetFile(masks).read_row_group(group, columns=["mask"]).to_pylist()
    for row, mask_row in zip(rows, mask_rows, strict=True):
        for name in ("target_img", "source_img"):
            picture = Image.open(io.BytesIO(row[name]["bytes"])).convert("RGB")
            picture.resize(size, Image.Resampling.LANCZOS).save(io.BytesIO(), "JPEG", quality=95)
        mask = Image.open(io.BytesIO(mask_row["mask"]["bytes"])).convert("L")
        mask.resize(size, Image.Resampling.NEAREST).save(io.BytesIO(), "PNG")
    return len(rows)


if __name__ == "__main__":
    main(tyro.cli(Config, description=main.__doc__))
