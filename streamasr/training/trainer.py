"""Train a model from a recipe and export it as a model folder.

All random values depend on the recipe's seed and the batch's number, so a run that was stopped or killed resumes as
if it had not been interrupted. With several processes, each one runs this loop; only the first writes files and
emits events.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from streamasr.acoustic import AnyEncoder, Encoder, build_encoder
from streamasr.config import ModelConfig
from streamasr.memory import release_freed_memory
from streamasr.text import text_rules
from streamasr.toml import to_toml
from streamasr.training.checkpoints import Checkpoints, write_atomically
from streamasr.training.config import TrainConfig
from streamasr.training.crf import build_crf
from streamasr.training.data.batches.prepare import FeatureBatch, StreamPosition
from streamasr.training.diagnosis import TrainingDiagnostics
from streamasr.training.distributed import ProcessGroup
from streamasr.training.monitoring.events import DevReport, Event, Observer, PreparationProgress, RunStarted
from streamasr.training.objective import LossSums, Objective
from streamasr.training.optim import build_optimizer, freeze, load_optimizer, set_rates
from streamasr.training.precision import resolve_precision
from streamasr.training.pretrained import load_pretrained
from streamasr.training.speech_data import SpeechData
from streamasr.training.step_statistics import StepStatistics
from streamasr.training.temperature import save_with_temperature
from streamasr.training.tokenizer import build_tokenizer
from streamasr.training.transcripts import require_manifests


class Trainer:
    """One run of a recipe in ``folder``; an interrupted run in the same folder is resumed.

    Args:
        config: the recipe.
        folder: folder of the checkpoints, the cache of decoded audio and the model (``folder/model``). All processes
            must have access to it.
        group: this process and those it trains with.
        observer: called with each event of the run, on the first process only.
        decode_workers: processes that decode speech; by default one for each CPU that this process may use.

    Raises:
        ConfigError: the recipe is inconsistent.
        DataError: a manifest or an audio file cannot be used.
        ModelError: the pretrained weights are missing, damaged, or of another architecture.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        group: ProcessGroup,
        observer: Observer,
        *,
        decode_workers: int | None = None,
    ) -> None:
        self.config = config = resolve_precision(config, group.device)
        self.folder = folder
        self.group = group
        self._observer = observer
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        require_manifests(config)
        self.tokenizer = build_tokenizer(config)
        tokens = self.tokenizer.tokens
        self.encoder = build_encoder(config.encoder, len(tokens)).to(group.device)
        if config.pretrained is not None:
            load_pretrained(self.encoder, config.pretrained, tokens)
        teacher = None
        if config.loss.distillation:
            teacher = copy.deepcopy(self.encoder).eval().requires_grad_(False)
            if config.teacher is not None:
                load_pretrained(teacher, config.teacher, tokens)
        crf = build_crf(config, self.tokenizer) if config.loss.crf else None
        self.objective = Objective(config, self.encoder, tokens.blank, teacher, crf)
        self.optimizer = build_optimizer(self.objective, config.optim)
        self.scaler = GradScaler(group.device.type, enabled=config.precision == "float16")
        average = get_ema_multi_avg_fn(config.optim.ema_decay)
        self.average = AveragedModel(self.encoder, multi_avg_fn=average)
        self.speech = SpeechData(
            config, folder, self.tokenizer, group, observer=self._emit, workers=decode_workers
        )
        self.diagnostics = TrainingDiagnostics(config.diagnosis)
        self.checkpoints = Checkpoints(folder / "checkpoints", config.keep_checkpoints)
        self.step = 0
        self.seconds = 0.0
        self.best_rate = float("inf")
        self.evaluations_since_best = 0
        self.positions: dict[int, StreamPosition] = {}
        self._resume()

    def train(self, *, until: Callable[[], bool] = lambda: False) -> bool:
        """Train until the schedule ends or ``until()`` returns true, then save and export the model.

        Args:
            until: called before each step; on any process, true stops the run on all of them.

        Returns:
            Whether the run finished. A run that was stopped is not evaluated at the end.

        Raises:
            TrainingError: the loss or gradient was not finite in too many steps in a row.
        """
        config = self.config
        self._emit(
            RunStarted(
                step=self.step,
                steps=config.optim.steps,
                name=config.name,
                frame_ms=config.framing.frame_ms,
                recipe=to_toml(config),
                unit=text_rules(config.language).unit,
            )
        )
        if self.step == 0:
            for where, checked in self.speech.transcripts:
                for diagnosis in self.diagnostics.check_transcripts(
                    0, where, checked.problems, checked.total
                ):
                    self._emit(diagnosis)
        batches = self.speech.batches(self.step * config.optim.accumulate_batches, self.positions)
        statistics = StepStatistics(self.group, self.seconds)
        model: nn.Module | None = None
        stopped = False
        while self.step < config.optim.steps and not self._patience_exhausted():
            stopped = self.group.any(until())
            if stopped:
                break
            if model is None or self.step == config.optim.freeze_encoder_steps:
                model = self._distributed_objective()
            self._train_step(model, batches, statistics)
            self.step += 1
            if self.step % config.log_every_steps == 0:
                self._report(statistics)
            if self.step % config.save_every_steps == 0:
                self.save()
            if self.step % config.evaluate_every_steps == 0:
                self.evaluate()
        self.save()
        if not stopped and self.step % config.evaluate_every_steps:
            self.evaluate()
        if self.group.is_first:
            self.export()
        self.group.barrier()
        return not stopped

    def _distributed_objective(self) -> nn.Module:
        """Freeze the weights that do not learn now, and wrap the objective for several processes."""
        freeze(
            self.objective, self.config.optim, head_only=self.step < self.config.optim.freeze_encoder_steps
        )
        if self.group.size == 1:
            return self.objective
        return DistributedDataParallel(self.objective)

    def _train_step(
        self, model: nn.Module, batches: Iterator[FeatureBatch], statistics: StepStatistics
    ) -> None:
        config = self.config.optim
        step_batches = list(islice(batches, config.accumulate_batches))
        framing = self.config.framing
        frames = torch.stack([framing.encoder_frames(batch.lengths_B).sum() for batch in step_batches]).sum()
        all_frames = self.group.sum(frames.clone())
        sums: list[LossSums] = []
        for number, batch in enumerate(step_batches, 1):
            # Gradients are exchanged with the last batch of the step only. DDP averages them over the processes;
            # multiplying the loss by the group's size gives their sum.
            last = number == len(step_batches)
            with (
                model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()
            ):
                batch_sums: LossSums = model(batch)
                scaled = self.scaler.scale(batch_sums.loss * (self.group.size / all_frames))
                scaled.backward()
            sums.append(LossSums(*(each.detach() for each in batch_sums)))
            if batch.position is not None:
                self.positions[batch.position.reader] = batch.position
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.encoder.parameters(), config.clip_norm)
        finite = bool(torch.isfinite(norm))
        set_rates(self.optimizer, self.step, config)
        if finite:
            self.scaler.step(self.optimizer)
            self.average.update_parameters(self.encoder)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.seconds += self.group.sum(
            torch.tensor(sum(batch.seconds for batch in step_batches), device=self.group.device)
        ).item()
        statistics.add(step_batches, sums, frames, norm if finite else None)
        unalignable = [row for batch in step_batches for row in batch.unalignable]
        if self.group.size > 1:
            unalignable = [row for rows in self.group.all_gather(unalignable) for row in rows]
        for diagnosis in self.diagnostics.check_step(self.step + 1, finite=finite, unalignable=unalignable):
            self._emit(diagnosis)

    def _report(self, statistics: StepStatistics) -> None:
        report = statistics.report(
            step=self.step,
            seconds=self.seconds,
            learning_rate=max(group["lr"] for group in self.optimizer.param_groups),
            unalignable=self.diagnostics.unalignable,
        )
        self._emit(report)
        for diagnosis in self.diagnostics.check_blanks(self.step, report.blank_share):
            self._emit(diagnosis)

    @torch.no_grad()
    def evaluate(self) -> list[DevReport]:
        """Measure the averaged weights on the dev manifests at each chunk size, with greedy decoding.

        The reports are emitted and returned.
        """
        encoder = self.averaged_encoder()
        reports = []
        for dev in self.speech.dev:
            for chunk_frames in self.config.encoder.chunk_frames:
                result = dev.measure(encoder, chunk_frames, self.step)
                self._emit(result.report)
                reports.append(result.report)
                for diagnosis in self.diagnostics.check_repeats(self.step, result.pairs):
                    self._emit(diagnosis)
        if reports:
            by_word = text_rules(self.config.language).unit == "word"
            rates = [report.wer if by_word else report.cer for report in reports]
            self._note_best(sum(rates) / len(rates))
        return reports

    def averaged_encoder(self) -> AnyEncoder:
        """Return an encoder with the averaged weights, which are measured and exported."""
        encoder = self.average.module
        assert isinstance(encoder, Encoder)
        if self.config.optim.average == "checkpoints" and self.checkpoints.paths():
            encoder = copy.deepcopy(encoder)
            encoder.load_state_dict(self.checkpoints.mean(self.group.device, "encoder"))
        return encoder.eval()

    def _note_best(self, rate: float) -> None:
        self.evaluations_since_best += 1
        if rate < self.best_rate:
            self.best_rate, self.evaluations_since_best = rate, 0
            if self.config.optim.patience_evaluations and self.group.is_first:
                write_atomically(self._best, self.averaged_encoder().state_dict())

    def _patience_exhausted(self) -> bool:
        patience = self.config.optim.patience_evaluations
        return 0 < patience <= self.evaluations_since_best

    def export(self) -> Path:
        """Export the averaged weights (with early stopping, the best ones) as a model folder and return its path.

        The weights of the CTC head are divided by the recipe's temperature.
        """
        target = self.folder / "model"
        target.mkdir(exist_ok=True)
        config, encoder = self.config, self.averaged_encoder()
        if config.optim.patience_evaluations and self._best.exists():
            encoder = copy.deepcopy(encoder)
            encoder.load_state_dict(torch.load(self._best, weights_only=True))
        model = ModelConfig(
            name=config.name,
            language=config.language,
            sample_delay=config.framing.sample_delay,
            frontend=config.frontend,
            encoder=config.encoder,
            decoder=config.decoder,
            endpointing=config.endpointing,
        )
        (target / "config.toml").write_text(to_toml(model), encoding="utf-8")
        self.tokenizer.save(target)
        save_with_temperature(encoder, target / "model.safetensors", config.temperature)
        return target

    def save(self) -> None:
        """Save a checkpoint."""
        release_freed_memory()
        positions = [position for each in self.group.all_gather(self.positions) for position in each.values()]
        if not self.group.is_first:
            return
        state: dict[str, Any] = {
            "step": self.step,
            "seconds": self.seconds,
            "best_rate": self.best_rate,
            "evaluations_since_best": self.evaluations_since_best,
            "unalignable": self.diagnostics.unalignable,
            "positions": [tuple(position) for position in positions],
            "encoder": self.encoder.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if self.objective.teacher_projection is not None:
            state["to_teacher"] = self.objective.teacher_projection.state_dict()
        self.checkpoints.save(self.step, state)

    def _resume(self) -> None:
        saved = self.checkpoints.newest(self.group.device)
        if saved is None:
            return
        for name in ("step", "seconds", "best_rate", "evaluations_since_best"):
            setattr(self, name, saved[name])
        self.diagnostics.unalignable = saved["unalignable"]
        self.positions = {position[0]: StreamPosition(*position) for position in saved["positions"]}
        self.encoder.load_state_dict(saved["encoder"])
        self.average.load_state_dict(saved["average"])
        if self.objective.teacher_projection is not None:
            self.objective.teacher_projection.load_state_dict(saved["to_teacher"])
        load_optimizer(self.optimizer, saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])

    def _emit(self, event: Event | PreparationProgress) -> None:
        if self.group.is_first:
            self._observer(event)

    @property
    def _best(self) -> Path:
        return self.folder / "best.pt"
