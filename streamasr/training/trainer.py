"""The training loop: rows, two augmented views, the loss, the step, the average; and a model folder at the end.

Everything random comes from the recipe's seed and the step's number, so a run that was stopped goes on as if it
had not been.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from streamasr import scoring
from streamasr.acoustic import save_encoder
from streamasr.acoustic.whisper import WhisperEncoder
from streamasr.config import ModelConfig, to_toml
from streamasr.decoding.greedy import greedy_text_of_ids
from streamasr.frontend.mel import LogMel
from streamasr.training import losses
from streamasr.training.config import TrainConfig
from streamasr.training.data.augment import Augment
from streamasr.training.data.corpus import Corpus, load_corpus
from streamasr.training.data.rows import Batch, RowBuilder, RowPlan
from streamasr.training.optim import build_optimizer, load_optimizer, set_rates
from streamasr.training.pretrained import load_pretrained
from streamasr.training.tokenizer import build_tokens

_FRAME_MULTIPLE = 64
_INT16_SCALE = 32768.0
_DEV_ROWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a step tells: losses per encoder frame, the peak rate, and speed in audio seconds a second."""

    step: int
    ctc: float
    consistency: float
    distillation: float
    gradient_norm: float
    learning_rate: float
    speed: float
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DevReport:
    """Greedy word and character error rates of the averaged weights on a dev manifest, at one chunk size."""

    step: int
    manifest: str
    chunk_frames: int
    wer: float
    cer: float


class Trainer:
    """One run of a recipe in ``folder``; an interrupted run in the same folder is resumed.

    Args:
        config: the recipe.
        folder: checkpoints, the cache of decoded sound and the model folder (``folder/model``) go here.
        device: where to train.
        report: called with :class:`Report` and :class:`DevReport` values as they come.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        device: torch.device,
        report: Callable[[Report | DevReport], None],
    ) -> None:
        self.config = config
        self.folder = folder
        self.device = device
        self.report = report
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.tokenizer = build_tokens(config)
        self.tokens = self.tokenizer.tokens
        self.frontend = LogMel(config.frontend).to(device)
        self.encoder = WhisperEncoder(config.encoder, len(self.tokens)).to(device)
        if config.pretrained is not None:
            load_pretrained(self.encoder, config.pretrained)
        self.teacher: WhisperEncoder | None = None
        self.to_teacher = nn.Linear(config.encoder.dim, config.encoder.dim, device=device)
        nn.init.eye_(self.to_teacher.weight)
        if config.loss.distillation:
            self.teacher = copy.deepcopy(self.encoder).eval().requires_grad_(False)
        extra = self.to_teacher.parameters() if self.teacher is not None else ()
        self.optimizer = build_optimizer(self.encoder, extra, config.optim)
        average = get_ema_multi_avg_fn(config.optim.ema_decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.encoder, multi_avg_fn=average)
        self.step = 0
        self.seconds = 0.0
        self._open_data()
        if self._checkpoint.exists():
            self._resume()

    def train(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Train to the end of the schedule, or till ``until()`` holds; saves, and writes the model folder."""
        config, started, heard = self.config, time.perf_counter(), self.seconds
        for rows in self.plan.batches(skip=self.step):
            if self.step >= config.optim.steps or until():
                break
            values = self._train_step(self.builder.build(rows))
            self.step += 1
            if self.step % config.log_every_steps == 0:
                speed = (self.seconds - heard) / (time.perf_counter() - started)
                self._report_step(values, speed)
                started, heard = time.perf_counter(), self.seconds
            if self.step % config.save_every_steps == 0:
                self.save()
            if self.step % config.evaluate_every_steps == 0:
                self.evaluate()
        self.save()
        if self.step % config.evaluate_every_steps:
            self.evaluate()
        self.export()

    def _train_step(self, batch: Batch) -> Tensor:
        config = self.config
        self.generator.manual_seed(config.seed * 1_000_003 + self.step)
        pcm_BS, lengths_B = self.augment.speed(batch.pcm_BS, batch.lengths_B)
        pcm_BS, samples_B = self._to_whole_frames(pcm_BS, lengths_B)
        views = 2 if config.loss.consistency else 1
        mel_lengths_B = (samples_B // config.frontend.hop).repeat(views)
        frames_per_second = config.frontend.sample_rate / config.frontend.hop
        with torch.no_grad():
            mel_BTM = self.frontend(self.augment.sound(pcm_BS.repeat(views, 1)))
            mel_BTM = self.augment.mask(mel_BTM, frames_per_second)

        chunks = torch.tensor(config.encoder.chunk_frames, device=self.device)
        weights = torch.tensor(config.chunk_weights, device=self.device)
        rows = len(mel_BTM)
        chunk_B = chunks[torch.multinomial(weights, rows, replacement=True, generator=self.generator)]
        period = config.encoder.position_period_frames
        position_B = torch.randint(period, (rows,), generator=self.generator, device=self.device)

        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            with torch.set_grad_enabled(self.step >= config.optim.freeze_encoder_steps):
                hidden_BTD, frames_B = self.encoder.encode(mel_BTM, mel_lengths_B, chunk_B, position_B)
            log_probs_BTV = self.encoder.log_probs(hidden_BTD)
            mask_BT = torch.arange(hidden_BTD.shape[1], device=self.device) < frames_B[:, None]
            ctc = losses.ctc(
                log_probs_BTV,
                frames_B,
                batch.targets.repeat(views),
                batch.target_lengths_B.repeat(views),
                self.tokens.blank,
            )
            consistency = distillation = torch.zeros((), device=self.device)
            if views == 2:
                consistency = losses.consistency(log_probs_BTV, mask_BT)
            if self.teacher is not None:
                with torch.no_grad():
                    clean_BTM, one_view = self.frontend(pcm_BS), len(pcm_BS)
                    teacher_BTD, _ = self.teacher.encode(
                        clean_BTM, mel_lengths_B[:one_view], None, position_B[:one_view]
                    )
                student_BTD = self.to_teacher(hidden_BTD)
                distillation = losses.distillation(student_BTD, teacher_BTD.repeat(views, 1, 1), mask_BT)
        frames = mask_BT.sum()
        weight = config.loss
        loss = (ctc + weight.consistency * consistency + weight.distillation * distillation) / frames
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.encoder.parameters(), config.optim.clip_norm)
        set_rates(self.optimizer, self.step, config.optim)
        self.optimizer.step()
        self.average.update_parameters(self.encoder)
        self.seconds += len(pcm_BS) * pcm_BS.shape[1] / config.frontend.sample_rate
        return torch.stack(
            (ctc.detach() / frames, consistency.detach() / frames, distillation.detach() / frames, norm)
        )

    @torch.no_grad()
    def evaluate(self) -> None:
        """Report greedy error rates of the averaged weights on the dev manifests, at every chunk size."""
        encoder = self.average.module.eval()
        assert isinstance(encoder, WhisperEncoder)
        for manifest, corpus in self.dev.items():
            for chunk in self.config.encoder.chunk_frames:
                texts = self._greedy(encoder, corpus, chunk)
                pairs = list(zip(map(self.tokenizer.normalise, corpus.texts), texts, strict=True))
                errors = scoring.score(pairs)
                self.report(
                    DevReport(
                        step=self.step, manifest=manifest, chunk_frames=chunk, wer=errors.wer, cer=errors.cer
                    )
                )

    def _greedy(self, encoder: WhisperEncoder, corpus: Corpus, chunk_frames: int) -> list[str]:
        texts: dict[int, str] = {}
        order = sorted(range(len(corpus)), key=lambda i: int(corpus.lengths[i]))
        for first in range(0, len(order), _DEV_ROWS):
            some = order[first : first + _DEV_ROWS]
            pieces = [
                torch.from_numpy(corpus.samples[corpus.offsets[i] : corpus.offsets[i + 1]].copy())
                for i in some
            ]
            pcm_BS = nn.utils.rnn.pad_sequence(pieces, batch_first=True).to(self.device) / _INT16_SCALE
            lengths_B = torch.tensor([len(piece) for piece in pieces], device=self.device)
            pcm_BS, samples_B = self._to_whole_frames(pcm_BS, lengths_B)
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"
            ):
                log_probs_BTV, frames_B = encoder(
                    self.frontend(pcm_BS), samples_B // self.config.frontend.hop, chunk_frames
                )
            for i, best_T, frames in zip(
                some, log_probs_BTV.argmax(-1).tolist(), frames_B.tolist(), strict=True
            ):
                texts[i] = greedy_text_of_ids(best_T[:frames], self.tokens)
        return [texts[i] for i in range(len(corpus))]

    def export(self) -> Path:
        """Write the averaged weights as a model folder and return its path."""
        target = self.folder / "model"
        target.mkdir(exist_ok=True)
        config = self.config
        frame = config.frontend.hop * WhisperEncoder.subsampling
        model = ModelConfig(
            name=config.name,
            language=config.language,
            sample_delay=config.frontend.n_fft // 2 + frame // 2,
            frontend=config.frontend,
            encoder=config.encoder,
            decoder=config.decoder,
            endpointing=config.endpointing,
        )
        (target / "config.toml").write_text(to_toml(model), encoding="utf-8")
        self.tokenizer.save(target)
        save_encoder(self.average.module, target / "model.safetensors")
        return target

    def save(self) -> None:
        """Write the checkpoint; a crash in the middle leaves the last one whole."""
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(
            {
                "step": self.step,
                "seconds": self.seconds,
                "encoder": self.encoder.state_dict(),
                "average": self.average.state_dict(),
                "to_teacher": self.to_teacher.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
            partial,
        )
        partial.replace(self._checkpoint)

    def _resume(self) -> None:
        saved = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
        self.step, self.seconds = saved["step"], saved["seconds"]
        for name in ("encoder", "average", "to_teacher"):
            getattr(self, name).load_state_dict(saved[name])
        load_optimizer(self.optimizer, saved["optimizer"])

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _open_data(self) -> None:
        config = self.config
        cache = config.data.cache or self.folder / "cache"
        rate = config.frontend.sample_rate
        corpus = load_corpus(config.data.manifests, cache, rate)
        token_ids = [self.tokenizer.encode(text) for text in corpus.texts]
        self.builder = RowBuilder(corpus, token_ids, self.tokenizer.separator, self.device)
        self.plan = RowPlan(
            corpus.lengths,
            row_samples=round(config.data.row_seconds * rate),
            max_gap_samples=round(config.data.max_gap_seconds * rate),
            rows_per_batch=config.data.rows_per_batch,
            seed=config.seed,
        )
        self.dev = {
            str(path.parent.name): load_corpus([path], cache, rate) for path in config.data.dev_manifests
        }
        noise_N = torch.zeros(0, device=self.device)
        if config.data.noise_manifests:
            noise = load_corpus(config.data.noise_manifests, cache, rate)
            noise_N = torch.from_numpy(noise.samples.copy()).to(self.device).float() / _INT16_SCALE
        self.generator = torch.Generator(self.device)
        self.augment = Augment(config.augment, rate, noise_N, self.generator)

    def _to_whole_frames(self, pcm_BS: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Complete every row's last encoder frame with silence; the batch is padded to kernels' liking."""
        frame = self.config.frontend.hop * WhisperEncoder.subsampling
        missing = -pcm_BS.shape[1] % (frame * _FRAME_MULTIPLE)
        samples_B = (lengths_B + frame - 1) // frame * frame
        return nn.functional.pad(pcm_BS, (0, missing)), samples_B

    def _report_step(self, values: Tensor, speed: float) -> None:
        ctc, consistency, distillation, norm = values.tolist()
        self.report(
            Report(
                step=self.step,
                ctc=ctc,
                consistency=consistency,
                distillation=distillation,
                gradient_norm=norm,
                learning_rate=max(group["lr"] for group in self.optimizer.param_groups),
                speed=speed,
                hours=self.seconds / 3600,
            )
        )
