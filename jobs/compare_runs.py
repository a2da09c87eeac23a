"""MLflow runs side by side, as a table and as a page."""

from __future__ import annotations

from jobs._main import run
from textremove.onray.runs import CompareJob, Comparison, compare_runs
from textremove.report.page import Report, Section, Table, write_report

_LONGEST_CELL = 26


def main(job: CompareJob) -> None:
    """Lay runs side by side: the settings in which they differ, and their figures."""
    comparison = compare_runs(job)
    print(describe(comparison))
    if job.out is not None:
        write_report(page(comparison), job.out)
        print(f"wrote {job.out}")


def describe(comparison: Comparison) -> str:
    """The comparison as a table of text, one column for each run."""
    rows = [("run", comparison.columns), *comparison.about, *comparison.params]
    rows += [(name, tuple(map(_figure, values))) for name, values in comparison.metrics]
    widths = [max(len(name) for name, _ in rows)]
    widths += [
        min(_LONGEST_CELL, max(len(values[k]) for _, values in rows)) for k in range(len(comparison.columns))
    ]
    return "\n".join(
        "  ".join(
            f"{_shortened(cell):<{width}}" for cell, width in zip((name, *values), widths, strict=True)
        ).rstrip()
        for name, values in rows
    )


def page(comparison: Comparison) -> Report:
    """The comparison as a page."""
    columns = ("", *comparison.columns)
    sections = [Section(title="Runs", tables=[_table(columns, comparison.about)])]
    if comparison.params:
        sections.append(Section(title="Settings that differ", tables=[_table(columns, comparison.params)]))
    if comparison.metrics:
        sections.append(Section(title="Figures", tables=[_table(columns, comparison.metrics)]))
    return Report(
        title="Runs side by side",
        lead=f"{len(comparison.columns)} runs, newest first, with the last value of each figure.",
        sections=sections,
    )


def _table(columns: tuple[str, ...], rows: tuple[tuple[str, tuple[object, ...]], ...]) -> Table:
    return Table(columns=columns, rows=[(name, *values) for name, values in rows], digits=4)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _shortened(text: str) -> str:
    # The end of a path or a name says more than its beginning.
    return text if len(text) <= _LONGEST_CELL else "..." + text[-_LONGEST_CELL + 3 :]


if __name__ == "__main__":
    run(main)
