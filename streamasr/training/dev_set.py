"""Measure a model on a dev manifest during training, with greedy decoding; the processes share the utterances.

For a full evaluation, streamed and with a language model, use ``streamasr evaluate``.
Shape suffixes: B rows, S samples, T encoder frames, M mel bands, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from streamasr import scoring
from streamasr.acoustic import AnyEncoder
from streamasr.decoding.greedy import greedy_text
from streamasr.frontend.build import build_frontend
from streamasr.training import losses
from streamasr.training.config import TrainConfig
from streamasr.training.data.audio.corpus import INT16_SCALE, AudioCorpus
from streamasr.training.data.batches.prepare import pad_batch
from streamasr.training.distributed import ProcessGroup
from streamasr.training.monitoring.events import DevReport
from streamasr.training.tokenizer import Tokenizer

_BATCH_SECONDS = 300
_SAMPLES_REPORTED = 5


@dataclass(frozen=True, slots=True)
class DevResult:
    """The result of a dev manifest at one chunk size."""

    report: DevReport
    pairs: tuple[tuple[str, str], ...]
    """(reference, hypothesis) of each utterance, in the manifest's order."""


class DevSet:
    """The utterances of one dev manifest.

    Args:
        name: name of the manifest in reports.
        corpus: its audio and transcripts.
        config: the recipe.
        tokenizer: the model's tokenizer.
        token_ids: token ids of each transcript; ``None`` for a transcript that the tokens cannot spell. Such an
            utterance counts in the error rates but not in the loss.
        group: the processes that share the utterances.
    """

    def __init__(
        self,
        name: str,
        corpus: AudioCorpus,
        config: TrainConfig,
        tokenizer: Tokenizer,
        *,
        token_ids: Sequence[list[int] | None],
        group: ProcessGroup,
    ) -> None:
        self.name = name
        self.corpus = corpus
        self.token_ids = token_ids
        self.config = config
        self.tokenizer = tokenizer
        self.group = group
        self.frontend = build_frontend(config.frontend).to(group.device)
        self.references = [tokenizer.normalise(text) for text in corpus.texts]

    @torch.no_grad()
    def measure(self, encoder: AnyEncoder, chunk_frames: int, step: int) -> DevResult:
        """Decode all utterances under the streaming mask of ``chunk_frames``, and compute the error rates.

        Returns:
            The result, the same on every process.
        """
        hypotheses, loss, frames = {}, 0.0, 0
        for indexes in self._batches():
            log_probs_BTV, frames_B = self._log_probs(encoder, indexes, chunk_frames)
            known_B = torch.tensor(
                [self.token_ids[index] is not None for index in indexes], device=frames_B.device
            )
            loss += self._loss(log_probs_BTV, frames_B, indexes, known_B)
            frames += int((frames_B * known_B).sum())
            best_BT = log_probs_BTV.argmax(-1).tolist()
            for index, best_T, count in zip(indexes, best_BT, frames_B.tolist(), strict=True):
                hypotheses[index] = greedy_text(best_T[:count], self.tokenizer.tokens)
        shares = self.group.all_gather((hypotheses, loss, frames))
        hypotheses = {index: text for share, _, _ in shares for index, text in share.items()}
        pairs = tuple((text, hypotheses[index]) for index, text in enumerate(self.references))
        rates = scoring.score(pairs)
        report = DevReport(
            step=step,
            manifest=self.name,
            chunk_frames=chunk_frames,
            loss=sum(share[1] for share in shares) / max(1, sum(share[2] for share in shares)),
            wer=rates.wer,
            cer=rates.cer,
            substitutions=rates.words.substitutions,
            insertions=rates.words.insertions,
            deletions=rates.words.deletions,
            words=rates.words.length,
            samples=pairs[:_SAMPLES_REPORTED],
        )
        return DevResult(report, pairs)

    def _batches(self) -> list[list[int]]:
        """Return the indexes of this process's utterances in batches of similar length."""
        order = np.argsort(self.corpus.lengths, kind="stable").tolist()[self.group.rank :: self.group.size]
        limit = _BATCH_SECONDS * self.config.frontend.sample_rate
        batches: list[list[int]] = []
        for index in order:
            if not batches or (len(batches[-1]) + 1) * int(self.corpus.lengths[index]) > limit:
                batches.append([])
            batches[-1].append(index)
        return batches

    def _log_probs(self, encoder: AnyEncoder, indexes: list[int], chunk_frames: int) -> tuple[Tensor, Tensor]:
        offsets, samples = self.corpus.offsets, self.corpus.samples
        pieces = [torch.from_numpy(np.array(samples[offsets[i] : offsets[i + 1]])) for i in indexes]
        pcm_BS = nn.utils.rnn.pad_sequence(pieces, batch_first=True).to(self.group.device) / INT16_SCALE
        lengths_B = torch.tensor([len(piece) for piece in pieces], device=self.group.device)
        pcm_BS, samples_B = pad_batch(pcm_BS, lengths_B, self.config)
        use_bfloat16 = self.config.precision == "bfloat16"
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=use_bfloat16):
            mel_BTM = self.frontend(pcm_BS, samples_B)
            return encoder.forward(mel_BTM, self.config.framing.mel_frames(samples_B), chunk_frames)

    def _loss(self, log_probs_BTV: Tensor, frames_B: Tensor, indexes: list[int], known_B: Tensor) -> float:
        rows = [self.token_ids[index] or [] for index in indexes]
        device = log_probs_BTV.device
        targets = torch.tensor([token for row in rows for token in row], dtype=torch.long, device=device)
        lengths_B = torch.tensor([len(row) for row in rows], device=device)
        blank = self.tokenizer.tokens.blank
        return float(losses.ctc(log_probs_BTV, frames_B, targets, lengths_B, blank, transcribed_B=known_B))
