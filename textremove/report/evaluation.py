"""The page of an evaluation: how well objects were found and holes filled, laid out as a paper's section."""

from __future__ import annotations

from collections.abc import Sequence

from textremove.groups import HUMAN_WORDS, LARGE_FROM, SMALL_BELOW
from textremove.report.cases import Case
from textremove.report.filling import PSNR, SUCCESS, ScoredFillings, inpaint_sections
from textremove.report.machine import describe_machine
from textremove.report.page import Report, Section
from textremove.report.scores import Scored, with_interval
from textremove.report.segmenting import BOX_DICE, segment_sections
from textremove.statistics import LEVEL, MIN_CLUSTERS, NUM_RESAMPLES

_LEVEL = f"{LEVEL:.0%}"


def evaluation_report(
    data: str,
    segment: Scored | None,
    cases: Sequence[Case],
    inpaint: ScoredFillings | None,
    settings: Sequence[tuple[str, str]],
) -> Report:
    """Lays an evaluation out as a page, for `textremove.report.page.write_report`.

    Args:
        data: Name of the prepared folder.
        segment: Scores of segmenters; None where none was asked for.
        cases: Examples to look at, in the order shown.
        inpaint: Scores of inpainters; None where none was asked for.
        settings: Names and values to list at the end, before the machine's.
    """
    sections = []
    if segment:
        sections += segment_sections(segment, cases)
    if inpaint:
        sections += inpaint_sections(inpaint)
    return Report(
        title=f"Evaluation on {data}",
        lead=_lead(segment, inpaint.scored if inpaint else None),
        sections=[*sections, _methods(with_segmenters=segment is not None)],
        environment=[*settings, *describe_machine()],
    )


def _lead(segment: Scored | None, inpaint: Scored | None) -> str:
    said: list[str] = []
    for scored, score in ((segment, BOX_DICE), (inpaint, PSNR), (inpaint, SUCCESS)):
        if scored and all(score.name in estimates for estimates in scored.summary.models.values()):
            said = said or [f"{scored.measured_on}."]
            models = ", ".join(
                f"{model} {with_interval(estimates[score.name], score.digits)}"
                for model, estimates in scored.summary.models.items()
            )
            said.append(f"{score.label[0].upper()}{score.label[1:]}: {models}.")
    return " ".join([*said, f"In brackets: {_LEVEL} intervals."])


def _methods(*, with_segmenters: bool) -> Section:
    text = [
        f"Intervals are {_LEVEL} percentile intervals of {NUM_RESAMPLES:,} bootstrap resamples, expanded for "
        "small numbers. Photos are drawn with all their examples, since examples of one photo are not "
        f"independent; where fewer than {MIN_CLUSTERS} photos are left there is no interval. Differences are "
        "taken example by example before they are averaged and resampled. No correction is made for the "
        "number of comparisons.",
        f"Size is the share of the picture that the true mask covers: small below {SMALL_BELOW:.0%}, large "
        f"from {LARGE_FROM:.0%} on. A class is human when its main word, singular or plural, is one of: "
        f"{', '.join(HUMAN_WORDS)}.",
    ]
    if with_segmenters:
        text.append(
            "The location prior answers with the mean training box of the place words and never looks at "
            "the picture: what is above it, a segmenter saw."
        )
    return Section(title="How it was measured", text=text)
