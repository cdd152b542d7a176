"""Compare the search with pyctcdecode and with the oracle on the default model's log-probs of real speech."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import kenlm
import numpy as np
import pytest
import torch
from pyctcdecode.alphabet import Alphabet
from pyctcdecode.decoder import BeamSearchDecoderCTC
from pyctcdecode.language_model import LanguageModel as PyctcdecodeLm

from streamasr.config import ModelConfig
from streamasr.decoding.beam import BeamDecoder, LogProbs
from streamasr.decoding.hypothesis import Final
from streamasr.decoding.language_model import LanguageModel
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.evaluation.tuning import Recording, record
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.reader import read_audio
from streamasr.recognition.model import LoadedModel, load_model, read_model_config
from streamasr.scoring import Edits, word_edits
from streamasr.text import join_words, text_rules
from tests.conftest import SharedData
from tests.decoding.oracle.beam import BeamDecoder as PythonBeams
from tests.decoding.oracle.language_model import LanguageModel as PythonLm
from tests.decoding.oracle.protocol import AnyUtteranceDecoder, S
from tests.decoding.oracle.utterance import UtteranceDecoder as PythonDecoder

CHUNK_FRAMES = 32
BEAM_WIDTH = 64
"""For all searches: those in Python are too slow for the model's own beam width."""


@pytest.fixture(scope="module")
def model(en_small: Path) -> LoadedModel:
    return load_model(en_small, "cpu")


def log_probs(model: LoadedModel, utterance: Utterance) -> LogProbs:
    """[T, V] of the whole utterance under the 640 ms mask."""
    samples_S = torch.from_numpy(read_audio(utterance.audio, model.sample_rate))
    pcm_BS = torch.nn.functional.pad(samples_S, (0, -len(samples_S) % model.frame_samples))[None]
    with torch.inference_mode():
        mel_BTM = model.frontend(pcm_BS)
        log_probs_BTV, _ = model.encoder.forward(mel_BTM, torch.tensor([mel_BTM.shape[1]]), CHUNK_FRAMES)
    log_probs_TV: LogProbs = log_probs_BTV[0].numpy()
    return log_probs_TV


def compare(
    folder: Path, config: ModelConfig, model: LoadedModel, utterances: list[Utterance]
) -> tuple[int, float]:
    """Return how many best texts differ from pyctcdecode's, and the largest difference of the other scores."""
    settings = replace(config.decoder, beam_width=BEAM_WIDTH, charge_empty_last_word=True, blank_penalty=0.0)
    tokens = TokenList.load(folder / "tokens.txt")
    ours = BeamDecoder(
        tokens, LanguageModel.load(folder / "lm.bin", folder / "unigrams.txt", settings), settings
    )
    kenlm_model = kenlm.Model(str(folder / "lm.bin"))
    unigrams = (folder / "unigrams.txt").read_text().split()
    pyctcdecode_lm = PyctcdecodeLm(
        kenlm_model, unigrams, settings.alpha, settings.beta, settings.unk_score_offset
    )
    pyctcdecode = BeamSearchDecoderCTC(Alphabet.build_alphabet(tokens.labels), pyctcdecode_lm)
    rng = np.random.default_rng(1)
    different, worst = 0, 0.0
    for utterance in utterances:
        log_probs_TV = log_probs(model, utterance)
        expected = pyctcdecode.decode_beams(
            log_probs_TV,
            beam_width=settings.beam_width,
            beam_prune_logp=settings.beam_prune_log_prob,
            token_min_logp=settings.token_min_log_prob,
        )[0]
        state = ours.initial_state()
        for piece in np.split(log_probs_TV, np.sort(rng.integers(0, len(log_probs_TV), size=5))):
            state = ours.step(state, piece)
        got = ours.hypotheses(state, final=True, count=1)[0]
        if got.text == expected[0]:
            worst = max(worst, abs(got.score - expected[-1]))
        else:
            different += 1
    pyctcdecode.cleanup()
    return different, worst


@pytest.mark.parametrize("speech", ["librispeech", "l2"])
def test_packaged_clips_decode_as_pyctcdecode_decodes_them(
    repository: Path, en_small: Path, model: LoadedModel, speech: str
) -> None:
    utterances = read_manifest(repository / "tests" / "data" / speech / "manifest.jsonl")
    different, worst = compare(en_small, read_model_config(en_small), model, utterances)
    assert different == 0
    assert worst < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("speech", "count"), [("dev-librispeech", 118), ("dev-l2", 400)])
def test_the_dev_sets_decode_as_pyctcdecode_decodes_them(
    shared_data: SharedData, en_small: Path, model: LoadedModel, speech: str, count: int
) -> None:
    utterances = read_manifest(shared_data(f"data/{speech}") / "manifest.jsonl")
    assert len(utterances) == count
    different, worst = compare(en_small, read_model_config(en_small), model, utterances)
    assert different <= 0.01 * count
    assert worst < 1e-3


class Compared(NamedTuple):
    """The native decoder compared with the one in Python."""

    different: int
    """Utterances whose texts differ in any letter."""
    native: Edits
    python: Edits


def compare_with_python(folder: Path, config: ModelConfig, recordings: Iterable[Recording]) -> Compared:
    """Run both decoders with the settings of the model, but for the beam."""
    decoder = replace(config.decoder, beam_width=BEAM_WIDTH)
    bare = replace(decoder, blank_penalty=0.0)
    tokens = TokenList.load(folder / "tokens.txt")
    # The oracle has no blank penalty: both decode log-probs with the penalty applied.
    prepare = BeamDecoder(tokens, None, decoder).prepare
    lm = LanguageModel.load(folder / "lm.bin", folder / "unigrams.txt", bare)
    words = (folder / "unigrams.txt").read_text(encoding="utf-8").split()
    python_lm = PythonLm(kenlm.Model(str(folder / "lm.bin")), words, bare)
    native = UtteranceDecoder(BeamDecoder(tokens, lm, bare), frame_ms=20.0, endpointing=config.endpointing)
    python = PythonDecoder(
        PythonBeams(tokens, python_lm, bare), frame_ms=20.0, endpointing=config.endpointing
    )
    rules = text_rules(config.language)
    different, edits = 0, [Edits(), Edits()]
    for recording in recordings:
        log_probs_TV = prepare(recording.log_probs_TV)
        texts = [text_of(native, log_probs_TV), text_of(python, log_probs_TV)]
        different += texts[0] != texts[1]
        for at, text in enumerate(texts):
            edits[at] += word_edits(recording.reference, rules.normalise(text))
    return Compared(different, *edits)


def text_of(decoder: AnyUtteranceDecoder[S], log_probs_TV: LogProbs) -> str:
    """Decode chunk by chunk."""
    state = decoder.initial_state(replace(decoder.default_options(), partials=False))
    finals = []
    for start in range(0, len(log_probs_TV), CHUNK_FRAMES):
        state, events = decoder.step(state, log_probs_TV[start : start + CHUNK_FRAMES])
        finals += [event.hypothesis.text for event in events if isinstance(event, Final)]
    _, events = decoder.flush(state)
    finals += [event.hypothesis.text for event in events if isinstance(event, Final)]
    return join_words(finals)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("speech", "count"), [("dev-librispeech", 118), ("dev-l2", 400)])
def test_the_dev_sets_decode_as_in_python(
    shared_data: SharedData, en_small: Path, model: LoadedModel, speech: str, count: int
) -> None:
    utterances = read_manifest(shared_data(f"data/{speech}") / "manifest.jsonl")
    assert len(utterances) == count
    recordings = record(model, utterances, chunk_ms=640, batch=8)
    compared = compare_with_python(en_small, read_model_config(en_small), recordings)
    assert compared.different == 0
    assert compared.native.errors <= compared.python.errors
    assert compared.native.rate < 0.5  # not nothing
