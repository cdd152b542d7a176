"""Detect common problems of CTC training while it runs, and describe them with their likely causes and remedies.

A problem is reported once, and again only if it occurs after it has disappeared. Rows that cannot be aligned are
reported again when there are ten times as many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from streamasr.errors import TrainingError
from streamasr.training.config import DiagnosisConfig
from streamasr.training.monitoring.events import Diagnosis

_NAMED_ROWS = 3


class TrainingDiagnostics:
    """Checks a run for problems.

    Args:
        config: the thresholds at which problems are reported.
    """

    def __init__(self, config: DiagnosisConfig) -> None:
        self.config = config
        self.unalignable = 0
        self._reported: set[str] = set()
        self._reported_unalignable = 0
        self._not_finite_in_a_row = 0

    def check_transcripts(
        self, step: int, where: str, problems: Sequence[str], total: int
    ) -> Iterator[Diagnosis]:
        """Check for unusable transcripts.

        Args:
            step: the step at which the run starts.
            where: ``training``, or the name of a dev manifest.
            problems: one message per unusable transcript.
            total: the number of transcripts.
        """
        if not problems:
            return
        consequence = (
            "are left out" if where == "training" else "count in the error rates but not in the loss"
        )
        more = f" and {len(problems) - _NAMED_ROWS} more" if len(problems) > _NAMED_ROWS else ""
        yield Diagnosis(
            step=step,
            kind="transcripts",
            finding=f"{len(problems)} of {total} transcripts ({where}) cannot be used and {consequence}: "
            f"{'; '.join(problems[:_NAMED_ROWS])}{more}.",
            cause="A transcript is empty, or it has digits, symbols or characters that are not among the tokens.",
            remedy="List all of them with `streamasr data check --tokens RECIPE`. Write numbers and symbols as they "
            "are spoken, or add tokens to the recipe. Audio without speech belongs in data.noise_manifests.",
        )

    def check_step(self, step: int, *, finite: bool, unalignable: Sequence[str]) -> Iterator[Diagnosis]:
        """Check a step for a loss or gradient that is not finite, and for rows that CTC cannot align.

        Args:
            step: number of the step.
            finite: whether loss and gradient were finite; otherwise the step was skipped.
            unalignable: one message per row of the step that has more tokens than its frames allow.

        Raises:
            TrainingError: ``not_finite_steps`` steps in a row were not finite.
        """
        self._not_finite_in_a_row = 0 if finite else self._not_finite_in_a_row + 1
        if self._not_finite_in_a_row >= self.config.not_finite_steps:
            raise TrainingError(
                f"the loss or gradient was not finite in {self._not_finite_in_a_row} steps in a row up to step "
                f"{step}: lower optim.learning_rate or raise optim.warmup_steps, and resume from the last checkpoint"
            )
        yield from self._report_once(
            not finite,
            Diagnosis(
                step=step,
                kind="not_finite",
                finding="The loss or its gradient is not finite (NaN or infinity); the step was skipped.",
                cause="In most cases a learning rate that is too high or rises too fast; otherwise float16 overflow, "
                "or broken audio.",
                remedy="Lower optim.learning_rate or raise optim.warmup_steps, keep optim.clip_norm near 1, use "
                "bfloat16 instead of float16, and run `streamasr data check` on the manifests.",
            ),
        )
        if unalignable:
            self.unalignable += len(unalignable)
            if self.unalignable >= 10 * self._reported_unalignable:
                self._reported_unalignable = self.unalignable
                yield Diagnosis(
                    step=step,
                    kind="lengths",
                    finding=f"{self.unalignable} rows so far have more tokens than CTC can align to their frames, "
                    f"and count as 0 in the loss. {'; '.join(unalignable[:_NAMED_ROWS])}.",
                    cause="A transcript of other or longer audio, truncated audio, a speed factor that is too high, "
                    "or an encoder with too few frames per second for character tokens.",
                    remedy="List such utterances with `streamasr data check`, and correct or remove them. If there "
                    "are many, use word pieces, which need fewer frames.",
                )

    def check_blanks(self, step: int, blank_share: float) -> Iterator[Diagnosis]:
        """Check the share of blank frames since the last report."""
        blank = step >= self.config.all_blank_grace_steps and blank_share >= self.config.all_blank_share
        yield from self._report_once(
            blank,
            Diagnosis(
                step=step,
                kind="all_blank",
                finding=f"{blank_share:.1%} of the frames are blank: the model outputs no text.",
                cause="CTC models learn first to output only blanks, and this one has not got beyond that. The "
                "learning rate is too low or too high, the model is small and untrained, or the transcripts do not "
                "match the audio.",
                remedy="Try a learning rate three times higher and three times lower, a longer warm-up, short "
                "utterances first, or a pretrained encoder. Listen to the output of `streamasr data preview` and "
                "compare it with the transcripts.",
            ),
        )

    def check_repeats(self, step: int, pairs: Iterable[tuple[str, str]]) -> Iterator[Diagnosis]:
        """Check the (reference, hypothesis) pairs of an evaluation for repeated characters."""
        pairs = list(pairs)
        expected = repeated_share(reference for reference, _ in pairs)
        found = repeated_share(hypothesis for _, hypothesis in pairs)
        yield from self._report_once(
            found - expected > self.config.repeats_share,
            Diagnosis(
                step=step,
                kind="repeats",
                finding=f"{found:.1%} of the characters in the hypotheses repeat the one before ({expected:.1%} in "
                "the references): the model repeats letters.",
                cause="Transcripts with repeated letters, a wrong id of the blank, or decoding that removes blanks "
                "before it merges repeats.",
                remedy="Check the transcripts with `streamasr data check`. Make sure that tokens.txt is the file "
                "that the model was trained with, and that decoding merges repeats first (docs/ctc.md).",
            ),
        )

    def _report_once(self, occurs: bool, diagnosis: Diagnosis) -> Iterator[Diagnosis]:
        if not occurs:
            self._reported.discard(diagnosis.kind)
        elif diagnosis.kind not in self._reported:
            self._reported.add(diagnosis.kind)
            yield diagnosis


def repeated_share(texts: Iterable[str]) -> float:
    """Return the share of all characters in the texts that equal the character before."""
    repeated = count = 0
    for text in texts:
        repeated += sum(a == b for a, b in pairwise(text))
        count += len(text)
    return repeated / max(1, count)
