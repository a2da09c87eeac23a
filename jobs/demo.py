"""The whole chain on procedural scenes: data, training, scores, promotion, a batch, HTTP, a report.

Every step is the job of the same name, called in this process with small settings, all on one Ray.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import _demo_pictures as pictures
from jobs import _demo_tables as tables
from jobs import evaluate as evaluate_job
from jobs import make_scenes
from jobs._main import run
from jobs._service import service
from jobs._steps import Steps
from textremove.atomic import atomic_file
from textremove.errors import ConfigError
from textremove.images import encode_image
from textremove.inpaint.objective import InpaintTrainConfig
from textremove.onray.batch import BatchConfig, BatchResult, run_batch
from textremove.onray.batch import describe as describe_batch
from textremove.onray.cluster import connect
from textremove.onray.evaluate import EvaluateJob, evaluate
from textremove.onray.evaluation import Evaluation
from textremove.onray.finetune_inpainter import InpainterJob, InpainterResult, finetune_inpainter
from textremove.onray.prepare import PrepareConfig, prepare
from textremove.onray.registry import CHAMPION, PromoteJob, promote
from textremove.onray.runs import CompareJob, Comparison, compare_runs
from textremove.onray.tracking import TrackingConfig
from textremove.onray.train_segmenter import SegmenterJob, SegmenterResult, train_segmenter
from textremove.pipe.summary import describe as describe_dataset
from textremove.presets import load_remover
from textremove.removal import Remover
from textremove.report.demo import DemoResults, ShownRemoval, before_after, demo_report
from textremove.report.page import write_report
from textremove.segment.training import SegmenterTrainConfig

REPORT_FILE = "report.html"
_MARKER = ".made-by-the-demo"
_NUM_STEPS = 11


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How big the demo is. The defaults are for two cores and a few minutes.

    Attributes:
        out: Folder for everything it makes; what an earlier demo made there is replaced.
        num_scenes: Scenes to make; each gives a row or a few.
        segmenter_epochs: Passes over them for the segmenter, which continues from the shipped weights.
        adapter_epochs: Passes over them for the inpainter's adapter, which continues from the shipped one.
        num_scored: Test examples to score; 0 for all.
        num_photos: Photos of the batch.
        before_after: Where to write removals as one picture, as the README shows it; by default nowhere.
        seed: Of the scenes and the trainings; the shipped weights have seen the scenes of seed 1.
    """

    out: Path = Path("runs/demo")
    num_scenes: int = 400
    segmenter_epochs: int = 1
    adapter_epochs: int = 1
    num_scored: int = 40
    num_photos: int = 12
    before_after: Path | None = None
    seed: int = 7


def main(config: DemoConfig) -> None:
    """Run the whole chain on procedural scenes and write a report to look at."""
    _clear(config.out)
    steps = Steps(_NUM_STEPS)
    results = _Chain(config, steps).run()
    path = config.out / REPORT_FILE
    write_report(demo_report(results), path)
    if config.before_after is not None:
        with atomic_file(config.before_after) as partial:
            partial.write_bytes(encode_image(before_after(results.removals)))
    minutes = sum(steps.seconds.values()) / 60
    photo, prompt = pictures.first_photo(config.out / "photos" / pictures.PROMPTS_FILE)
    print(
        f"\ndone in {minutes:.1f} minutes; the report, one file to open in a browser:\n  {path.resolve()}\n"
        "what to try next:\n"
        "  source .venv/bin/activate\n"
        f'  textremove remove {photo} "{prompt}" --out clean.png\n'
        f"  python -m serve --segmenter {config.out}/segmenter --adapter {config.out}/adapter\n"
        f"  mlflow ui --backend-store-uri {_tracking(config.out).tracking_uri}\n"
        "  README.md, “On your own data, and on a cluster”"
    )


class _Chain:
    """The steps in order, each on what the ones before it made."""

    def __init__(self, config: DemoConfig, steps: Steps) -> None:
        self.config = config
        self.out = config.out
        self.step = steps.step
        self.seconds = steps.seconds
        self.tracking = _tracking(config.out)

    def run(self) -> DemoResults:
        with self.step("make scenes", about=f"{self.config.num_scenes} procedural pictures, seconds"):
            self._make_scenes()
        with self._ray():
            with self.step("prepare PIPE rows", about="rows to examples, half a minute"):
                dataset = self._prepare()
            with self.step("train the segmenter", about="two workers, about a minute"):
                segmenter = self._train_segmenter()
            with self.step("fine-tune the inpainter", about="a LoRA adapter, two workers, about a minute"):
                inpainter = self._finetune_inpainter()
            with self.step("evaluate", about="on test scenes, half a minute"):
                scores = self._evaluate()
            with self.step("promote", about="the champion alias in MLflow, seconds"):
                promotion = self._promote(segmenter.run_id, inpainter.run_id)
            with self.step("batch removal", about="a folder of photos, half a minute"):
                batch = self._batch()
            remover = self._remover()
            with self.step("look at removals", about="in this process, seconds"):
                figure_one = pictures.figure_one(remover)
                removals = pictures.first_removals(remover, self.out / "prepared", 10)
            with self.step("remove over HTTP", about="starts Ray Serve, half a minute"):
                http = self._over_http(next((s for s in removals if s.mask.any()), removals[0]))
        with self.step("compare the runs", about="from MLflow, seconds"):
            runs = self._compare()
        return DemoResults(
            seconds=self.seconds,
            dataset=dataset,
            training=tables.training_sentences(segmenter, inpainter),
            figure_one=figure_one,
            segmenters=tables.segmenters(scores),
            inpainters=tables.inpainters(scores),
            removals=removals,
            promotion=promotion,
            batch=tables.outcomes(batch),
            http_request=http.request,
            http_answer=http.answer,
            http=http.shown,
            runs=tables.runs(runs),
        )

    @contextmanager
    def _ray(self) -> Iterator[None]:
        with ExitStack() as stack:
            with self.step("start Ray", about="a local one, ten seconds"):
                stack.enter_context(connect())
            yield

    def _make_scenes(self) -> None:
        out, scenes, seed = self.out / "scenes", self.config.num_scenes, self.config.seed
        make_scenes.main(make_scenes.MakeScenesConfig(out=out, num_scenes=scenes, seed=seed))

    def _prepare(self) -> dict[str, Any]:
        scenes = self.out / "scenes"
        job = PrepareConfig(images=f"{scenes}/PIPE", masks=f"{scenes}/PIPE_Masks", out=f"{self.out}/prepared")
        info = prepare(job, progress=_say)
        _say(describe_dataset(info))
        return info

    def _train_segmenter(self) -> SegmenterResult:
        job = SegmenterJob(
            data=f"{self.out}/prepared",
            out=self.out / "segmenter",
            init="tiny",
            training=SegmenterTrainConfig(
                epochs=self.config.segmenter_epochs,
                batch_size=24,
                # Gentle, as the shipped weights have seen many more scenes than these.
                learning_rate=2e-4,
                text_learning_rate=2e-4,
                seed=self.config.seed,
            ),
            tracking=self.tracking,
        )
        return train_segmenter(job, say=_say)

    def _finetune_inpainter(self) -> InpainterResult:
        job = InpainterJob(
            data=f"{self.out}/prepared",
            out=self.out / "adapter",
            init="tiny",
            precision="bfloat16",
            training=InpaintTrainConfig(
                epochs=self.config.adapter_epochs,
                batch_size=8,
                learning_rate=2e-4,  # gentle, as the shipped adapter has seen many more scenes than these
                noisiest_share=0.5,
                seed=self.config.seed,
            ),
            tracking=self.tracking,
        )
        return finetune_inpainter(job, say=_say)

    def _evaluate(self) -> Evaluation:
        job = EvaluateJob(
            data=f"{self.out}/prepared",
            out=self.out / "scores",
            segmenter=(str(self.out / "segmenter"), "tiny"),
            adapter=str(self.out / "adapter"),
            limit=self.config.num_scored,
            tracking=self.tracking,
        )
        scores = evaluate(job, say=_say)
        _say(evaluate_job.describe(scores, split=job.split))
        return scores

    def _promote(self, *run_ids: str) -> str:
        lines = []
        for run_id in run_ids:
            done = promote(PromoteJob(run_id=run_id, tracking=self.tracking))
            state = "is" if done.promoted else "is not"
            lines.append(f"models:/{done.name}@{CHAMPION} {state} version {done.version}: {done.reason}")
        _say("\n".join(lines))
        return "\n".join(lines)

    def _batch(self) -> BatchResult:
        table = pictures.write_photos(self.out / "prepared", self.out / "photos", self.config.num_photos)
        job = BatchConfig(
            inputs=table,
            out=self.out / "cleaned",
            segmenter=str(self.out / "segmenter"),
            adapter=str(self.out / "adapter"),
            inpainter="tiny-base",
        )
        result = run_batch(job, progress=_say)
        _say(describe_batch(result))
        return result

    def _remover(self) -> Remover:
        return load_remover(str(self.out / "segmenter"), "tiny-base", adapter=str(self.out / "adapter"))

    def _over_http(self, shown: ShownRemoval) -> pictures.HttpRemoval:
        arguments = ["--segmenter", str(self.out / "segmenter")]
        arguments += ["--inpainter", "tiny-base", "--adapter", str(self.out / "adapter")]
        with service(arguments, log=self.out / "serve.log") as url:
            answered = pictures.remove_over_http(url, shown.image, shown.prompt)
        _say(answered.answer)
        return answered

    def _compare(self) -> Comparison:
        return compare_runs(CompareJob(tracking=self.tracking))


def _tracking(out: Path) -> TrackingConfig:
    return TrackingConfig(tracking_uri=f"sqlite:///{out.resolve() / 'mlflow.db'}", experiment="demo")


def _clear(out: Path) -> None:
    """Takes away what an earlier demo made; leaves alone a folder that something else made.

    Raises:
        ConfigError: `out` is a file, or a folder of something else.
    """
    if out.is_file():
        raise ConfigError(f"{out} is a file; give the name of a folder")
    if out.is_dir() and any(out.iterdir()):
        if not (out / _MARKER).is_file():
            raise ConfigError(f"{out} is there already and not of an earlier demo; give another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).touch()


def _say(line: str) -> None:
    print("    " + line.replace("\n", "\n    "), flush=True)


if __name__ == "__main__":
    run(main)
