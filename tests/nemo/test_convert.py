"""Test imports: every size is kept, and every unsupported option is refused with its name and value."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamasr.config import FastConformerEncoderConfig, NemoFrontendConfig
from streamasr.decoding.tokens import TokenList
from streamasr.errors import ConfigError, ModelError
from streamasr.nemo.convert import import_nemo
from streamasr.nemo.translate import generation_of, translate_config
from streamasr.recognition.encoder_output import run_streamed, run_whole
from streamasr.recognition.model import load_model
from tests.nemo.checkpoint import MODULES, nemo_config
from tests.recognition.tiny import noise

Pack = Callable[..., Path]


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the configuration with another value; ``...`` removes the option."""
    config = copy.deepcopy(nemo_config())
    *tables, key = path.split(".")
    table = config
    for name in tables:
        table = table[name]
    if value is ...:
        del table[key]
    else:
        table[key] = value
    return config


def test_all_sizes_are_kept() -> None:
    model = translate_config(nemo_config(), None)
    assert model.encoder == FastConformerEncoderConfig(
        n_mels=128, dim=24, heads=3, layers=2, subsampling=4, subsampling_channels=24, feed_forward_factor=2,
        conv_kernel=5, bias=False, scale_input=False, dropout=0.1, left_context_frames=12, chunk_frames=(1, 3, 6),
    )  # fmt: skip
    assert model.frontend == NemoFrontendConfig(generation="legacy", n_mels=128)
    assert (model.head, model.tokenizer) == ("ctc_decoder", "abc_tokenizer.model")
    assert model.version == "1.23.0rc0"


def test_the_generation_is_that_of_the_version_unless_it_is_chosen() -> None:
    generations = {v: generation_of(v) for v in ("1.20.0", "2.4.0", "2.5.0rc0", "3.0.0", "2.10", "")}
    assert list(generations.values()) == ["legacy", "legacy", "current", "current", "current", "legacy"]
    assert translate_config(nemo_config(), "current").frontend.generation == "current"
    assert translate_config(changed("nemo_version", ...), None).frontend.generation == "legacy"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "target",
            "x.EncDecRNNTBPEModel",
            "target = 'x.EncDecRNNTBPEModel' is not supported, only EncDecCTCModelBPE",
        ),
        ("tokenizer.type", "wpe", "tokenizer.type = 'wpe' is not supported, only 'bpe'"),
        ("tokenizer.type", "agg", "tokenizer.type = 'agg' is not supported"),
        ("tokenizer.model_path", ..., "tokenizer.model_path: missing"),
        ("tokenizer", ..., "tokenizer: missing, or not a table"),
        (
            "preprocessor._target_",
            "x.AudioToMFCCPreprocessor",
            "preprocessor._target_ = 'x.AudioToMFCC.* only Audio",
        ),
        (
            "preprocessor.normalize",
            "per_feature",
            "preprocessor.normalize = 'per_feature' is not supported, only 'NA'",
        ),
        ("preprocessor.normalize", ..., "preprocessor.normalize = 'per_feature' is not supported"),
        ("preprocessor.window", "hamming", "preprocessor.window = 'hamming' is not supported"),
        ("preprocessor.log", False, "preprocessor.log = False is not supported, only True"),
        ("preprocessor.log_zero_guard_type", "clamp", "log_zero_guard_type = 'clamp' is not supported"),
        ("preprocessor.log_zero_guard_value", "tiny", "log_zero_guard_value = 'tiny': expected float or int"),
        ("preprocessor.mag_power", 1.0, "preprocessor.mag_power = 1.0 is not supported"),
        ("preprocessor.mel_norm", None, "preprocessor.mel_norm = None is not supported, only 'slaney'"),
        ("preprocessor.window", None, "preprocessor.window = None is not supported, only 'hann'"),
        ("preprocessor.normalize", None, None),
        ("preprocessor.highfreq", None, None),
        ("preprocessor.lowfreq", 20, "preprocessor.lowfreq = 20 is not supported"),
        (
            "preprocessor.highfreq",
            7_000,
            "preprocessor.highfreq = 7000 is not supported, only 8000.0 or None",
        ),
        ("preprocessor.frame_splicing", 3, "preprocessor.frame_splicing = 3 is not supported, only 1"),
        ("preprocessor.exact_pad", True, "preprocessor.exact_pad = True is not supported"),
        ("preprocessor.use_torchaudio", True, "preprocessor.use_torchaudio = True is not supported"),
        ("preprocessor.window_size", "long", "preprocessor.window_size = 'long': expected float or int"),
        ("preprocessor.window_size", 0.5, "do not fit together: .*window must be even"),
        ("preprocessor.sparkle", 3, "preprocessor.sparkle = 3 is an unknown option"),
        ("preprocessor.features", 80, "encoder.feat_in|do not describe"),
        (
            "encoder._target_",
            f"{MODULES}.ConformerEncoderAdapter",
            "encoder._target_ = .* only ConformerEncoder",
        ),
        (
            "encoder.subsampling",
            "striding",
            "encoder.subsampling = 'striding' is not supported, only 'dw_striding'",
        ),
        ("encoder.subsampling", ..., "encoder.subsampling = 'striding' is not supported"),
        ("encoder.subsampling_factor", 6, "together: encoder.subsampling must be a power of two"),
        (
            "encoder.causal_downsampling",
            False,
            "encoder.causal_downsampling = False is not supported, only True",
        ),
        ("encoder.causal_downsampling", ..., "encoder.causal_downsampling = False is not supported"),
        ("encoder.att_context_style", "regular", "att_context_style = 'regular' is not supported"),
        (
            "encoder.att_context_style",
            "chunked_limited_with_rc",
            "'chunked_limited_with_rc' is not supported",
        ),
        ("encoder.att_context_size", [-1, -1], r"att_context_size = \[-1, -1\] is not supported, only pairs"),
        ("encoder.att_context_size", [-1, 13], r"att_context_size = \[-1, 13\] is not supported"),
        ("encoder.att_context_size", [[70, 13], [140, 6]], "only one left context for all look-aheads"),
        ("encoder.att_context_size", [70, 12], "encoder.left_context_frames must be a multiple .* got 70"),
        ("encoder.att_context_size", ..., "att_context_size = .* is not supported"),
        ("encoder.self_attention_model", "rel_pos_local_attn", "self_attention_model = 'rel_pos_local_attn'"),
        ("encoder.self_attention_model", "abs_pos", "self_attention_model = 'abs_pos' is not supported"),
        ("encoder.conv_norm_type", "batch_norm", "encoder.conv_norm_type = 'batch_norm' is not supported"),
        ("encoder.conv_norm_type", ..., "encoder.conv_norm_type = 'batch_norm' is not supported"),
        (
            "encoder.conv_context_size",
            [2, 2],
            r"encoder.conv_context_size = \[2, 2\] is not supported, only 'causal'",
        ),
        ("encoder.conv_context_size", None, "encoder.conv_context_size = None is not supported"),
        ("encoder.feat_out", 99, "encoder.feat_out = 99 is not supported"),
        (
            "encoder.reduction",
            "pooling",
            "encoder.reduction = 'pooling' is not supported, only None",
        ),
        ("encoder.reduction_factor", 2, "encoder.reduction_factor = 2 is not supported"),
        ("encoder.global_tokens", 1, "encoder.global_tokens = 1 is not supported, only 0"),
        ("encoder.n_heads", 5, "do not fit together: encoder.dim"),
        ("encoder.use_bias", "yes", "encoder.use_bias = 'yes': expected bool"),
        ("encoder.n_layers", ..., "encoder.n_layers: missing"),
        ("encoder.n_layers", True, "encoder.n_layers = True: expected int"),
        ("encoder.sparkle", "on", "encoder.sparkle = 'on' is an unknown option"),
        ("aux_ctc.decoder._target_", "x.LSTMDecoder", "aux_ctc.decoder._target_ = .* only ConvASRDecoder"),
        ("aux_ctc.decoder.feat_in", 12, "aux_ctc.decoder.feat_in = 12 is not supported, only 24 or None"),
        ("aux_ctc.decoder.add_blank", False, "aux_ctc.decoder.add_blank = False is not supported"),
        ("aux_ctc", ..., "aux_ctc.decoder: missing, or not a table"),
    ],
)
def test_an_unsupported_option_is_named_with_its_value(path: str, value: Any, message: str | None) -> None:
    config = changed(path, value)
    if path == "preprocessor.features":
        config["encoder"]["feat_in"] = 128
    if message is None:
        assert translate_config(config, None) == translate_config(nemo_config(), None)
        return
    with pytest.raises(ModelError, match=message):
        translate_config(config, None)


def test_streams_of_another_checkpoint_equal_whole_utterances(pack: Pack, tmp_path: Path) -> None:
    imported = import_nemo(pack(mode="w:gz"), tmp_path / "model", name="mine", language="de")
    assert imported.config.name == "mine"
    assert (tmp_path / "model" / "tokenizer.model").is_file()
    assert "NeMo 1.23.0rc0" in (tmp_path / "model" / "README.md").read_text()
    tokens = TokenList.load(tmp_path / "model" / "tokens.txt")
    assert (tokens.kind, tokens.blank, tokens.unknown, len(tokens)) == ("pieces", 20, 0, 21)
    model = load_model(tmp_path / "model", "cpu")
    assert model.config.language == "de"
    samples_S = noise(2.3, seed=5)
    for seed, chunk_frames in enumerate(model.encoder.chunk_frames):
        whole = run_whole(model, samples_S, chunk_frames)
        streamed = run_streamed(model, samples_S, chunk_frames, split_seed=seed)
        assert whole.mel_TM.shape == (231, 128)
        assert streamed.log_probs_TV.shape == whole.log_probs_TV.shape
        assert np.abs(streamed.log_probs_TV - whole.log_probs_TV).max() <= 1e-4


def test_a_folder_that_is_not_empty_stays_unchanged(pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious").touch()
    with pytest.raises(ConfigError, match="exists already and is not empty; name a new folder"):
        import_nemo(pack(), tmp_path / "model")


def test_a_folder_that_cannot_be_written_is_named(pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/model: cannot be written: (File exists|Not a directory)"):
        import_nemo(pack(), tmp_path / "file" / "model")


def test_a_failed_import_leaves_nothing_behind(pack: Pack, tmp_path: Path) -> None:
    out = tmp_path / "models" / "mine"
    out.parent.mkdir()
    config = nemo_config()
    config["encoder"]["n_layers"] = 3
    path = pack(config)
    config["encoder"]["n_layers"] = 2
    with pytest.raises(
        ModelError, match=r"the encoder has .* weights that its configuration does not explain"
    ):
        import_nemo(pack_with(path, config), out)
    config["encoder"]["n_layers"] = 4
    with pytest.raises(ModelError, match=r"the checkpoint has no weight encoder\.layers\.3"):
        import_nemo(pack_with(path, config), out)
    config["encoder"]["n_layers"], config["encoder"]["ff_expansion_factor"] = 3, 3
    with pytest.raises(ModelError, match="the weights do not fit the configuration"):
        import_nemo(pack_with(path, config), out)
    assert list(out.parent.iterdir()) == []


def pack_with(path: Path, config: dict[str, Any]) -> Path:
    """Copy an archive with another configuration."""
    import io
    import tarfile

    import yaml

    copied = path.with_name("copied.nemo")
    with tarfile.open(path) as old, tarfile.open(copied, "w") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            data = file.read()
            if member.name.endswith(".yaml"):
                data = yaml.safe_dump(config).encode()
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return copied


def test_a_damaged_tokenizer_is_refused(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the tokenizer is not a SentencePiece model"):
        import_nemo(pack(abc_tokenizer__model=b"nonsense"), tmp_path / "model")
