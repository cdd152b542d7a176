"""Provide the events of a run, with all kinds of events."""

from __future__ import annotations

import pytest

from streamasr.training.monitoring.events import DevReport, Diagnosis, Event, RunStarted, StepReport


def step_report(step: int, loss: float = 0.5) -> StepReport:
    return StepReport(
        step=step,
        hours=step / 100,
        loss=loss,
        ctc=loss * 0.8,
        intermediate=0.0,
        consistency=loss * 0.2,
        distillation=0.0,
        blank_share=0.75,
        gradient_norm=1.5,
        learning_rate=2e-4,
        speed=38.0,
        padding_share=0.04,
        unalignable=3,
    )


def dev_report(step: int, chunk_frames: int, wer: float) -> DevReport:
    return DevReport(
        step=step,
        manifest="dev-books",
        chunk_frames=chunk_frames,
        loss=0.3,
        wer=wer,
        cer=wer / 3,
        substitutions=7,
        insertions=2,
        deletions=1,
        words=40,
        samples=(("tom & jerry ran", "tom and jerry"),),
    )


RUN = RunStarted(step=0, steps=400, name="tiny<1>", frame_ms=20.0, recipe='name = "tiny<1>"\nseed = 7\n')
DIAGNOSIS = Diagnosis(
    step=200,
    kind="all_blank",
    finding="every frame is blank.",
    cause="The rate is too high.",
    remedy="Lower it.",
)


@pytest.fixture
def events() -> list[Event]:
    emitted: list[Event] = [RUN]
    for step in (100, 200, 300):
        emitted.append(step_report(step, 100 / step))
        emitted += [dev_report(step, frames, 60 / step - frames / 1000) for frames in (8, 32)]
    return [*emitted, DIAGNOSIS]
