"""Compare the own decoder with pyctcdecode through ``evaluate``, and test what happens without pyctcdecode."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamasr.config import DecoderConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.language_model import LanguageModel
from streamasr.decoding.tokens import TokenList
from streamasr.errors import ConfigError
from streamasr.evaluation.decoding_pass import Mode
from streamasr.evaluation.evaluate import DEFAULT_CHUNK_MS, EvaluationOptions, evaluate
from streamasr.evaluation.pyctcdecode_reference import PyctcdecodeReference
from streamasr.evaluation.tuning import record
from streamasr.manifest import read_manifest
from streamasr.recognition.model import load_model
from streamasr.text import text_rules
from tests.decoding.synthetic import (
    CHARACTERS,
    PIECES,
    SENTENCES,
    TOKENS,
    beam_decoder,
    kenlm_model,
    sentences_of,
    speech,
    write_arpa,
)

BEAM_WIDTH = 64
"""pyctcdecode is too slow for the default model's own beam width."""
CONFIG = DecoderConfig(blank_penalty=0.5)


def lm_from_files(folder: Path, tokens: TokenList) -> LanguageModel:
    """The synthetic trigram of ``tokens``, written to ``folder`` and read again."""
    sentences = sentences_of(tokens)
    arpa = write_arpa(folder, sentences, "en" if sentences is SENTENCES else "zh")
    words = folder / "unigrams.txt"
    words.write_text("\n".join(kenlm_model(tokens)[1]), encoding="utf-8")
    return LanguageModel.load(arpa, words, CONFIG)


@pytest.mark.parametrize("with_lm", [False, True])
@pytest.mark.parametrize("tokens", [TOKENS, PIECES, CHARACTERS], ids=lambda tokens: tokens.kind)
def test_it_decodes_every_kind_of_token_as_the_own_decoder(
    tokens: TokenList, with_lm: bool, tmp_path: Path
) -> None:
    beams = BeamDecoder(tokens, lm_from_files(tmp_path, tokens) if with_lm else None, CONFIG)
    reference, rng = PyctcdecodeReference(beams), np.random.default_rng(0)
    sentences = sentences_of(tokens)
    different = 0
    for sentence in sentences:
        log_probs = speech(sentence, rng, confusion=0.4, tokens=tokens)
        state = beams.step(beams.initial_state(), log_probs)
        (best,) = beams.hypotheses(state, final=True, count=1)
        assert best.text
        different += reference.text(log_probs) != best.text
    assert different <= 0.01 * len(sentences)


def test_no_frames_have_no_text() -> None:
    reference = PyctcdecodeReference(beam_decoder(lm=False))
    assert reference.text(np.zeros((0, len(TOKENS)), dtype=np.float32)) == ""


def test_it_decodes_clips_of_speech_as_the_own_decoder(repository: Path, en_small: Path) -> None:
    """With pyctcdecode's score of an empty last word, the only difference that may change a text."""
    model = load_model(en_small, "cpu")
    beams = model.decoder.beams
    assert beams.lm is not None
    config = replace(model.config.decoder, beam_width=BEAM_WIDTH, charge_empty_last_word=True)
    beams = BeamDecoder(beams.tokens, beams.lm.with_weights(config), config)
    model = replace(model, decoder=model.decoder.with_beam_decoder(beams).with_rescorer(None))
    data = repository / "tests" / "data"
    utterances = [u for name in ("librispeech", "l2") for u in read_manifest(data / name / "manifest.jsonl")]
    assert len(utterances) >= 6
    own_texts = {}
    for utterance in utterances:
        (recording,) = record(model, [utterance], chunk_ms=DEFAULT_CHUNK_MS, batch=1)
        state = beams.step(beams.initial_state(), recording.log_probs_TV)
        (best,) = beams.hypotheses(state, final=True, count=1)
        own_texts[str(utterance.audio)] = text_rules(model.config.language).normalise(best.text)
    (measurement,) = evaluate(
        model, {"clips": utterances}, EvaluationOptions(modes=(Mode.PYCTCDECODE,))
    ).measurements
    assert measurement.mode == "pyctcdecode"
    assert all(own_texts.values())
    same = sum(answer.hypothesis == own_texts[answer.audio] for answer in measurement.answers)
    assert same >= 0.99 * len(utterances)
    assert measurement.wer.value < 0.5  # not nothing


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyctcdecode", None)
    monkeypatch.delitem(sys.modules, "pyctcdecode.decoder", raising=False)
    with pytest.raises(
        ConfigError, match=r'pyctcdecode is not installed.*pip install "streamasr\[pyctcdecode\]"'
    ):
        PyctcdecodeReference(beam_decoder(lm=False))


def test_a_language_model_without_files_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs the language model's files"):
        PyctcdecodeReference(beam_decoder())
