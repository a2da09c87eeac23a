"""How well holes were filled, and whether what was in them is gone: sections of the evaluation page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from textremove.inpaint.metrics import BAND, psnr
from textremove.report.filling_cases import FillingCase, filling_case_row
from textremove.report.page import Section, Table
from textremove.report.score_figures import ViolinRow, interval_chart, violin_chart
from textremove.report.scores import Scored, group_chart, group_table, pair_chart, pair_table, score_table
from textremove.scores import Score, columns_of

PSNR = Score(name="psnr", label="PSNR in the mask (dB)", digits=2)
SUCCESS = Score(name="success", label="removal success")
POOLED = Score(
    name="pooled_psnr", label="PSNR over all pixels (dB)", column="squared_error", weight="num_pixels",
    of_mean=psnr, digits=2,
)  # fmt: skip
SECONDS = Score(name="seconds", label="seconds per photo")
ATTEMPTS = Score(name="attempts", label="attempts", digits=2)
PIXELS = (
    PSNR,
    POOLED,
    Score(name="ssim", label="SSIM in the mask"),
    Score(name="band_psnr", label="PSNR in the band (dB)", digits=2),
    Score(name="band_ssim", label="SSIM in the band"),
)
NETWORKS = (
    Score(name="lpips", label="LPIPS in the mask"),
    Score(name="band_lpips", label="LPIPS in the band"),
    Score(name="remove", label="ReMOVE"),
)
FRECHET = Score(name="local_fid", label="local FID", digits=1)  # of all rows together, so no mean of rows
INPAINT_SCORES = (SUCCESS, *PIXELS, *NETWORKS, ATTEMPTS, SECONDS)
INPAINT_PAIRED = ("psnr", "success")

BLUR = (
    "Every score that needs no truth likes blur. Removal success does: a smear holds no object, so a "
    "segmenter finds nothing in it. ReMOVE does: it compares the mean look of the hole with that of its "
    "surroundings, and an even smear differs from it least. PSNR and SSIM have a truth and like blur all the "
    "same, since the mean of all that could lie behind is nearer to it than any one sharp guess. LPIPS and "
    "eyes do not. So look at the pictures, and trust a gain in one score only where another does not fall."
)


@dataclass(frozen=True, kw_only=True)
class ScoredFillings:
    """Variants scored on a split, with what their sections say beside the scores.

    Attributes:
        scored: Their scores.
        cases: Examples to look at, in the order shown.
        about: What each variant is, in words.
        absent: Why a score through a network is not there, by its name.
        segmenter: Which one looks for what was removed; "" for none.
    """

    scored: Scored
    cases: Sequence[FillingCase] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    segmenter: str = ""


def inpaint_sections(fillings: ScoredFillings) -> list[Section]:
    """Lays out the scores of variants."""
    scored = fillings.scored
    sections = [_overview(scored, fillings.about)]
    if any(SUCCESS.name in scores for scores in scored.summary.models.values()):
        sections += [_success(scored, fillings.segmenter), _groups(scored, SUCCESS, "Success")]
    sections += [_pixels(scored, fillings.absent), _groups(scored, PSNR, "PSNR")]
    return [*sections, *([_sheet(fillings.cases)] if fillings.cases else [])]


def _overview(scored: Scored, about: Mapping[str, str]) -> Section:
    gains = {pair.first: pair for pair in scored.summary.pairs if pair.score == PSNR.name}
    references = {pair.second for pair in gains.values()}
    columns = ["variant", "what it is", SUCCESS.label, PSNR.label, "attempts", SECONDS.label]
    digits = [0, 0, SUCCESS.digits, PSNR.digits, ATTEMPTS.digits, 2]
    rows: list[list[object]] = [
        [name, about.get(name, ""), *(estimates.get(score.name) for score in (SUCCESS, PSNR))]
        + [estimates[score.name].mean for score in (ATTEMPTS, SECONDS)]
        for name, estimates in scored.summary.models.items()
    ]
    if len(references) == 1:
        columns.insert(4, f"PSNR above {references.pop()} (dB)")
        digits.insert(4, PSNR.digits)
        for row in rows:
            row.insert(4, gains[str(row[0])].difference if row[0] in gains else None)
    table = Table(
        columns=columns,
        rows=rows,
        digits=digits,
        caption=f"Means over {scored.measured_on}, with true masks and the same seed for every variant. "
        "Gains are taken example by example. Seconds are of one photo at a time, beside the others that "
        "scored.",
    )
    changed = max((row["outside"] for row in scored.rows), default=0)
    kept = f"the largest difference to the input is {changed} grey levels, in {len(scored.rows):,} fillings"
    return Section(
        title="Removing with true masks",
        text=[
            "The true masks are given, so that only the filling is measured. Each option is tried by itself, "
            "on the base with its adapter where there is one.",
            f"Outside the feathered mask {kept}" + (", as it must be." if not changed else ": it must be 0."),
            BLUR,
        ],
        tables=[table],
    )  # fmt: skip


def _success(scored: Scored, segmenter: str) -> Section:
    one = [row for row in scored.rows if row["inpainter"] == scored.rows[0]["inpainter"]]
    looked = [row for row in one if row["found_before"]]
    gone = sum(row["truth_success"] for row in looked)
    bars = {name: {"": scores[SUCCESS.name]} for name, scores in scored.summary.models.items()}
    text = [
        f"The filled photo is given to {segmenter} again, with the same prompt. A removal has succeeded when "
        "no part of what is found, no mere speck, overlaps the hole by half of the smaller of both. What is "
        "not found in the input cannot be gone: "
        f"{len(one) - len(looked):,} of {len(one):,} examples are left out. ",
        "Variants that verify go by this same segmenter, so they are measured by what they select for.",
    ]
    if looked:
        text[0] += (
            f"In the truth itself, where nothing is left, it finds nothing in {gone / len(looked):.3f} of "
            f"the {len(looked):,} others: more cannot be asked for."
        )
        text.append(
            "Where every removal succeeds, resampling gives an interval without width; the true share may "
            f"still be as low as 1 − 3 / {len(looked):,} = {max(0.0, 1 - 3 / len(looked)):.3f}, the rule of "
            "three."
        )
    pairs = [pair for pair in scored.summary.pairs if pair.score == SUCCESS.name]
    tables = [pair_table(scored.summary, SUCCESS, caption="First minus second, removal success, by example.")]
    return Section(
        title="Is it gone?",
        text=text,
        figures=[interval_chart({"": bars}, x_label=SUCCESS.label)],
        tables=tables if pairs else [],
    )


def _pixels(scored: Scored, absent: Mapping[str, str]) -> Section:
    values = columns_of(scored.rows, "inpainter", "psnr")
    violins = [ViolinRow(label=name, values={PSNR.label: values[name]}) for name in scored.summary.models]
    there = {name for scores in scored.summary.models.values() for name in scores}
    networks = [score for score in (*NETWORKS, FRECHET) if score.name in there]
    pairs = [pair for pair in scored.summary.pairs if pair.score == PSNR.name]
    missing = [f"{_spelled(name)} is not given: {reason}." for name, reason in absent.items()]
    return Section(
        title="How near to the truth",
        text=[
            "Peak signal-to-noise ratio and structural similarity (Gaussian windows of 11 x 11 pixels) "
            f"against the truth, in the true mask and in a band around it, {BAND:.0%} of the crop wide, "
            "where a seam would show. Higher is better; over all pixels, large holes count for more.",
            *(
                ["LPIPS (AlexNet) is of the crop with the truth everywhere else; lower is better. ReMOVE is "
                 "the cosine between a ViT's mean features in the hole and around it; higher is better. "
                 "Local FID is the Fréchet distance between the crops around the holes, filled and true, as "
                 "torchvision's Inception v3 sees them; lower is better. It falls as examples are added: "
                 "compare it within this table alone."]
                if networks
                else []
            ),
            *([" ".join(missing)] if missing else []),
        ],
        figures=[violin_chart(violins), *([pair_chart(scored.summary, PSNR)] if pairs else [])],
        tables=[
            score_table(
                scored.summary,
                [*PIXELS, *networks],
                heading="variant",
                caption=f"Means over {scored.measured_on}.",
            ),
            *(
                [pair_table(scored.summary, PSNR, caption=f"First minus second, {PSNR.label}, by example.")]
                if pairs
                else []
            ),
        ],
    )  # fmt: skip


def _groups(scored: Scored, score: Score, title: str) -> Section:
    return Section(
        title=f"{title} by class and size",
        figures=[group_chart(scored.summary, score)],
        tables=[group_table(scored.summary, score, caption=f"Mean {score.label}, {scored.measured_on}.")],
    )


def _sheet(cases: Sequence[FillingCase]) -> Section:
    return Section(
        title="Fillings to look at",
        text=[
            "As the paper's Figures 3 and 4, with true masks and the same seed: best, median and worst by "
            "the PSNR of the last variant shown, removals after which the object is still found, and people. "
            "Under each filling: its PSNR in the mask, and whether the object is found again."
        ],
        picture_rows=[filling_case_row(case) for case in cases],
    )


def _spelled(name: str) -> str:
    return {"lpips": "LPIPS", "remove": "ReMOVE", "local_fid": "local FID"}[name]
