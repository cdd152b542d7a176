"""The four classic ways in which CTC training fails, noticed while it runs and said in plain words.

Knows numbers and texts, no tensors. A finding is told once, and again only after the trouble has been away (for rows
that cannot be aligned: when there are ten times as many).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from streamasr.errors import TrainingError
from streamasr.training.config import DiagnosisConfig
from streamasr.training.monitoring.events import Diagnosis

_NAMED_ROWS = 3


class TrainingDiagnostics:
    """Watches a run.

    Args:
        config: when something is a finding.
    """

    def __init__(self, config: DiagnosisConfig) -> None:
        self.config = config
        self.unalignable = 0
        self._told: set[str] = set()
        self._told_unalignable = 0
        self._not_finite = 0

    def check_transcripts(
        self, step: int, where: str, problems: Sequence[str], total: int
    ) -> Iterator[Diagnosis]:
        """What the transcripts show.

        Args:
            step: at which the run begins.
            where: ``training``, or a dev manifest's name.
            problems: what is wrong with which of them, in words.
            total: how many there are.
        """
        if not problems:
            return
        became = (
            "they are left out"
            if where == "training"
            else "they count in the error rates and not in the loss"
        )
        more = f" and {len(problems) - _NAMED_ROWS} more" if len(problems) > _NAMED_ROWS else ""
        yield Diagnosis(
            step=step,
            kind="transcripts",
            finding=f"{len(problems)} of {total} transcripts ({where}) cannot be used, and {became}: "
            f"{'; '.join(problems[:_NAMED_ROWS])}{more}.",
            cause="Nothing is written down, or it holds figures, symbols or characters that no token stands for.",
            remedy="`streamasr data check --tokens RECIPE` lists all of them: write them as they are spoken, or give "
            "the recipe tokens for them. Sound without speech belongs into data.noise_manifests.",
        )

    def check_step(self, step: int, *, finite: bool, unalignable: Sequence[str]) -> Iterator[Diagnosis]:
        """What a step shows.

        Args:
            step: its number.
            finite: whether loss and gradient were numbers; the step was left out otherwise.
            unalignable: its rows with more text than frames, in words.

        Raises:
            TrainingError: not finite for ``not_finite_steps`` in a row.
        """
        self._not_finite = 0 if finite else self._not_finite + 1
        if self._not_finite >= self.config.not_finite_steps:
            raise TrainingError(
                f"loss or gradient was not a finite number in {self._not_finite} steps in a row up to step {step}: "
                "lower optim.learning_rate, lengthen optim.warmup_steps, and resume from the last checkpoint"
            )
        yield from self._tell(
            not finite,
            Diagnosis(
                step=step,
                kind="not_finite",
                finding="The loss or its gradient is no finite number (NaN, infinite); the step was left out.",
                cause="Mostly a learning rate that is too high or rises too fast; float16 overflow; broken audio.",
                remedy="Lower optim.learning_rate or lengthen optim.warmup_steps, keep optim.clip_norm near 1, take "
                "bfloat16 rather than float16, and run `streamasr data check` on the manifests.",
            ),
        )
        if unalignable:
            self.unalignable += len(unalignable)
            if self.unalignable >= 10 * self._told_unalignable:
                self._told_unalignable = self.unalignable
                yield Diagnosis(
                    step=step,
                    kind="lengths",
                    finding=f"{self.unalignable} rows so far have more text than CTC can align to their frames; they "
                    f"count nothing in the loss. {'; '.join(unalignable[:_NAMED_ROWS])}.",
                    cause="A transcript that belongs to other or longer audio, audio that was cut, too large a "
                    "speed factor, or an encoder with too few frames a second for characters.",
                    remedy="`streamasr data check` lists such utterances: mend or remove them; with many, use word "
                    "pieces, which need fewer frames.",
                )

    def check_blanks(self, step: int, blank_share: float) -> Iterator[Diagnosis]:
        """What the share of blank frames, over the steps since the last report, shows."""
        blank = step >= self.config.all_blank_grace_steps and blank_share >= self.config.all_blank_share
        yield from self._tell(
            blank,
            Diagnosis(
                step=step,
                kind="all_blank",
                finding=f"{blank_share:.1%} of the frames say blank: the model writes nothing.",
                cause="Every CTC model first learns that blanks are common; this one has not left it at that. The "
                "learning rate is too low or too high, the model is new and small, or the texts do not belong to "
                "the sound.",
                remedy="Try optim.learning_rate three times higher and lower, a longer warm-up, short utterances "
                "first, a pretrained encoder; listen to `streamasr data preview` and compare with the texts.",
            ),
        )

    def check_repeats(self, step: int, pairs: Iterable[tuple[str, str]]) -> Iterator[Diagnosis]:
        """What the (reference, answer) pairs of an evaluation show."""
        pairs = list(pairs)
        wanted = doubled_share(reference for reference, _ in pairs)
        found = doubled_share(answer for _, answer in pairs)
        yield from self._tell(
            found - wanted > self.config.repeats_share,
            Diagnosis(
                step=step,
                kind="repeats",
                finding=f"{found:.1%} of the letters in the answers repeat the one before ({wanted:.1%} in the "
                "references): the model stutters.",
                cause="Transcripts with doubled letters, a blank that stands for another token, or decoding that "
                "removes blanks before it merges repeats.",
                remedy="Look at the transcripts (`streamasr data check`), see that tokens.txt is the one that the "
                "model was trained with, and that repeats are merged first (docs/ctc.md).",
            ),
        )

    def _tell(self, holds: bool, diagnosis: Diagnosis) -> Iterator[Diagnosis]:
        if not holds:
            self._told.discard(diagnosis.kind)
        elif diagnosis.kind not in self._told:
            self._told.add(diagnosis.kind)
            yield diagnosis


def doubled_share(texts: Iterable[str]) -> float:
    """Share of the characters, in all texts together, that equal the one before."""
    doubled = count = 0
    for text in texts:
        doubled += sum(a == b for a, b in pairwise(text))
        count += len(text)
    return doubled / max(1, count)
