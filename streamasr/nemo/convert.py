"""Convert a ``.nemo`` file into a model folder for the daemon, the trainer and the exporter."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from streamasr.acoustic import AnyEncoder, build_encoder, save_encoder
from streamasr.config import ModelConfig
from streamasr.decoding.loading import TOKENS_FILE
from streamasr.decoding.tokens import BLANK, TokenList
from streamasr.errors import ConfigError, ModelError
from streamasr.framing import framing_of
from streamasr.frontend.nemo import slaney_filters
from streamasr.nemo.archive import ArchiveLimits, open_archive
from streamasr.nemo.translate import Generation, NemoModel, translate_config
from streamasr.nemo.weights import translate_weights
from streamasr.toml import to_toml

TOKENIZER_FILE = "tokenizer.model"
_FILTER_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """The result of an import."""

    folder: Path
    config: ModelConfig
    model: NemoModel


def import_nemo(
    path: Path,
    out: Path,
    *,
    generation: Generation | None = None,
    name: str | None = None,
    language: str = "en",
    limits: ArchiveLimits | None = None,
) -> ImportedModel:
    """Convert a NeMo checkpoint into the model folder ``out``, with unchanged float32 weights.

    Args:
        path: the ``.nemo`` file.
        out: a new or empty folder; it is written completely or not at all.
        generation: generation of the front end; by default that of the checkpoint's version.
        name: the model's name; by default the file's.
        language: the model's language.
        limits: limits of the archive.

    Raises:
        ModelError: the file is not such a checkpoint, or has an unsupported option.
        ConfigError: ``out`` is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists already and is not empty; name a new folder")
    try:
        with open_archive(path, limits or ArchiveLimits()) as archive:
            model = translate_config(archive.config(), generation)
            pieces = archive.read(model.tokenizer)
            weights = archive.weights()
    except ModelError as error:
        raise ModelError(_with_path(path, error.message)) from None
    tokens = _tokens(pieces, path)
    config = ModelConfig(
        name=name or path.name.removesuffix(".nemo"),
        language=language,
        sample_delay=framing_of(model.frontend, model.encoder).sample_delay,
        frontend=model.frontend,
        encoder=model.encoder,
    )
    encoder = build_encoder(model.encoder, len(tokens))
    try:
        _check_filters(weights, model)
        encoder.load_state_dict(translate_weights(weights, model.encoder, model.head))
    except ModelError as error:
        raise ModelError(_with_path(path, error.message)) from None
    except RuntimeError as error:
        raise ModelError(f"{path}: the weights do not fit the configuration: {error}") from None
    try:
        _write(
            out,
            encoder,
            tokens,
            {
                "config.toml": to_toml(config).encode(),
                "README.md": _model_card(config, model, path).encode(),
                TOKENIZER_FILE: pieces,
            },
        )
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None
    return ImportedModel(out, config, model)


def _write(out: Path, encoder: AnyEncoder, tokens: TokenList, files: Mapping[str, bytes]) -> None:
    """Write the model folder, completely or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        save_encoder(encoder, folder / "model.safetensors", torch.float32)
        tokens.save(folder / TOKENS_FILE)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        if out.exists():
            out.rmdir()
        shutil.move(folder, out)


def _tokens(pieces: bytes, path: Path) -> TokenList:
    """The pieces of SentencePiece in their order, then the blank, as in NeMo's CTC heads."""
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    except (RuntimeError, OSError) as error:
        raise ModelError(f"{path}: the tokenizer is not a SentencePiece model ({error})") from None
    names = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    try:
        return TokenList((*names, BLANK))
    except ModelError as error:
        raise ModelError(f"{path}: the tokenizer's pieces: {error.message}") from None


def _check_filters(weights: dict[str, Tensor], model: NemoModel) -> None:
    """Check that the checkpoint's mel filters and window, if it has them, are those that the front end computes."""
    frontend = model.frontend
    expected_buffers = {
        "fb": slaney_filters(frontend.n_fft, frontend.n_mels, frontend.sample_rate).T.float()[None],
        "window": torch.hann_window(frontend.window, periodic=False),
    }
    for name, expected in expected_buffers.items():
        buffer = weights.get(f"preprocessor.featurizer.{name}")
        if buffer is None:
            continue
        if buffer.shape != expected.shape or (buffer.float() - expected).abs().max() > _FILTER_TOLERANCE:
            raise ModelError(f"preprocessor.featurizer.{name}: differs from what the configuration describes")


def _with_path(path: Path, message: str) -> str:
    return message if message.startswith(str(path)) else f"{path}: {message}"


def _model_card(config: ModelConfig, model: NemoModel, path: Path) -> str:
    frame_ms = framing_of(model.frontend, model.encoder).frame_ms
    latencies = ", ".join(f"{round(size * frame_ms)} ms" for size in model.encoder.chunk_frames)
    version = f"NeMo {model.version}" if model.version else "an unknown version of NeMo"
    return (
        f"# {config.name}\n\n"
        f"ImportedModel from `{path.name}`, a `{model.kind}` saved by {version}: the encoder and its CTC head.\n"
        f"Front end: {model.frontend.generation}. Latencies: {latencies}.\n\n"
        "The weights belong to their authors; see their source for licence and measurements.\n"
    )
