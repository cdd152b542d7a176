"""Test loading the decoder of a model folder, with and without a language model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig
from streamasr.decoding.hypothesis import Final
from streamasr.decoding.loading import load_decoder
from streamasr.errors import ModelError
from tests.decoding.synthetic import TOKENS, kenlm_model, speech, write_arpa

CONFIG = ModelConfig(
    name="tiny", decoder=DecoderConfig(beam_width=16), endpointing=EndpointConfig(silence_ms=400)
)


def test_tokens_alone_are_enough(tmp_path: Path) -> None:
    TOKENS.save(tmp_path / "tokens.txt")
    decoder = load_decoder(tmp_path, CONFIG, frame_ms=20.0)
    assert decoder.beams.lm is None
    assert decoder.beams.config.beam_width == 16
    assert decoder.initial_state().rules.silence_frames == 20


def test_a_language_model_is_used_if_there_is_one(tmp_path: Path) -> None:
    TOKENS.save(tmp_path / "tokens.txt")
    shutil.move(write_arpa(tmp_path), tmp_path / "lm.bin")
    (tmp_path / "unigrams.txt").write_text("\n".join(kenlm_model()[1]))
    decoder = load_decoder(tmp_path, CONFIG, frame_ms=20.0)
    state, _ = decoder.step(decoder.initial_state(), speech("the cold sea", np.random.default_rng(0)))
    _, (final,) = decoder.flush(state)
    assert isinstance(final, Final)
    assert final.hypothesis.text == "the cold sea"
    assert decoder.beams.lm is not None
    assert decoder.beams.lm.cached_entries > 0


def test_half_a_language_model_is_refused(tmp_path: Path) -> None:
    TOKENS.save(tmp_path / "tokens.txt")
    (tmp_path / "unigrams.txt").write_text("the\n")
    with pytest.raises(ModelError, match=r"lm\.bin: no such file"):
        load_decoder(tmp_path, CONFIG, frame_ms=20.0)


def test_a_folder_without_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokens\.txt: no such file"):
        load_decoder(tmp_path, CONFIG, frame_ms=20.0)
