"""The demo's figures as tables and sentences for its report."""

from __future__ import annotations

from textremove.onray.batch import BatchResult
from textremove.onray.evaluation import Evaluation
from textremove.onray.finetune_inpainter import InpainterResult
from textremove.onray.runs import Comparison
from textremove.onray.scorer import LOCATION_PRIOR
from textremove.onray.train_segmenter import SegmenterResult
from textremove.onray.variants import BASE, CLASSICAL, LORA, OURS
from textremove.report.page import Table

_INPAINTERS = {
    LORA: "diffusion with the adapter trained here",
    BASE: "the same without adapter",
    CLASSICAL: "OpenCV, Telea",
    OURS: "with the adapter, looked at again and filled again where needed",
}
_SHOWN_METRICS = ("best_val_loss", "last_val_loss", "test_box_dice", "test_box_iou", "test_psnr")


def training_sentences(segmenter: SegmenterResult, inpainter: InpainterResult) -> list[str]:
    """Says what was trained, from which weights and how far."""
    epochs = "one epoch" if segmenter.epochs == 1 else f"{segmenter.epochs} epochs"
    return [
        f"The segmenter started from {segmenter.started_from} and was trained for {epochs} on two workers; "
        f"on the validation split it chose the threshold {segmenter.threshold:.2f} and "
        f"{segmenter.strategy} masks.",
        f"The adapter has {inpainter.num_trainable:,} weights and started from "
        f"{inpainter.started_from}; the base's "
        f"{inpainter.num_frozen:,} stayed as they were. Validation loss "
        f"{inpainter.metrics['base_val_loss']:.4f} without it, {inpainter.metrics['val_loss']:.4f} with it.",
    ]


def segmenters(scores: Evaluation) -> Table:
    """Lays the segmenters' scores out, the ones trained first."""
    prior = scores.segmenters[LOCATION_PRIOR]["box_dice"]
    rows = [
        [
            _segmenter_name(name),
            score["box_dice"],
            score["box_iou"],
            score["raw_dice"],
            score["box_dice"] / prior if prior else None,
        ]
        for name, score in scores.segmenters.items()
    ]
    return Table(
        columns=["segmenter", "box Dice", "box IoU", "pixel Dice", "times the prior"],
        rows=rows,
        best=_best([score["box_dice"] for score in scores.segmenters.values()]),
        caption=f"Means over {scores.num_examples} test examples that no model was trained on.",
    )


def inpainters(scores: Evaluation) -> Table:
    """Lays the inpainters' scores out."""
    return Table(
        columns=["inpainter", "PSNR in the mask (dB)", "over all pixels (dB)", "seconds each"],
        rows=[
            [_INPAINTERS.get(name, name), score["psnr"], score["pooled_psnr"], score["seconds"]]
            for name, score in scores.inpainters.items()
        ],
        best=_best([score["psnr"] for score in scores.inpainters.values()]),
        caption=f"Means over {scores.num_examples} test examples, with the true masks and equal seeds.",
        digits=2,
    )


def outcomes(batch: BatchResult) -> dict[str, int]:
    """Counts inputs by what became of them, errors by their reason."""
    told = {status: count for status, count in sorted(batch.statuses.items()) if status != "error"}
    reasons = {reason: count for reason, count in sorted(batch.reasons.items()) if reason not in told}
    return {**told, **{f"error: {reason}": count for reason, count in reasons.items()}}


def runs(comparison: Comparison) -> Table:
    """Lays the runs out one below the other, with the figures that decide."""
    about, metrics = dict(comparison.about), dict(comparison.metrics)
    shown = [name for name in _SHOWN_METRICS if name in metrics]
    return Table(
        columns=["run", "kind", "status", *(name.replace("_", " ") for name in shown)],
        rows=[
            [run, about["kind"][k], about["status"][k], *(metrics[name][k] for name in shown)]
            for k, run in enumerate(comparison.columns)
        ],
        caption="As python -m jobs.compare_runs reads them from MLflow; evaluate leaves test scores with the "
        "run that made the model.",
    )


def _segmenter_name(name: str) -> str:
    return {"segmenter": "trained here", "tiny": "tiny, as shipped", LOCATION_PRIOR: "location prior"}.get(
        name, name
    )


def _best(values: list[float]) -> int | None:
    return max(range(len(values)), key=values.__getitem__) if values else None
