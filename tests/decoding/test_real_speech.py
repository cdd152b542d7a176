"""The default model's log-probs of real speech: the streaming search against pyctcdecode's over whole utterances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import kenlm
import numpy as np
import pytest
import torch
from pyctcdecode import Alphabet, BeamSearchDecoderCTC
from pyctcdecode.language_model import LanguageModel as OracleLm

from streamasr.config import ModelConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.language_model import LanguageModel
from streamasr.decoding.tokens import TokenList
from streamasr.engine.model import LoadedModel, load_model, read_model_config
from streamasr.frontend.files import read_audio
from streamasr.manifest import Utterance, read_manifest

CHUNK_FRAMES = 32


@pytest.fixture(scope="module")
def model(en_small: Path) -> LoadedModel:
    return load_model(en_small, "cpu")


def log_probs(model: LoadedModel, utterance: Utterance) -> np.ndarray:
    """[T, V] of the whole utterance under the 640 ms mask."""
    samples_S = torch.from_numpy(read_audio(utterance.audio, model.sample_rate))
    pcm_BS = torch.nn.functional.pad(samples_S, (0, -len(samples_S) % model.frame_samples))[None]
    with torch.inference_mode():
        mel_BTM = model.frontend(pcm_BS)
        log_probs_BTV, _ = model.encoder.forward(mel_BTM, torch.tensor([mel_BTM.shape[1]]), CHUNK_FRAMES)
    return log_probs_BTV[0].numpy()


def compare(
    folder: Path, config: ModelConfig, model: LoadedModel, utterances: list[Utterance]
) -> tuple[int, float]:
    """How many top texts differ from pyctcdecode's, and the largest difference of scores among the others."""
    settings = replace(config.decoder, charge_empty_last_word=True, blank_penalty=0.0)
    tokens = TokenList.load(folder / "tokens.txt")
    ours = BeamDecoder(
        tokens, LanguageModel.load(folder / "lm.bin", folder / "unigrams.txt", settings), settings
    )
    kenlm_model = kenlm.Model(str(folder / "lm.bin"))
    unigrams = (folder / "unigrams.txt").read_text().split()
    oracle_lm = OracleLm(kenlm_model, unigrams, settings.alpha, settings.beta, settings.unk_score_offset)
    oracle = BeamSearchDecoderCTC(Alphabet.build_alphabet(tokens.labels), oracle_lm)
    rng = np.random.default_rng(1)
    different, worst = 0, 0.0
    for utterance in utterances:
        log_probs_TV = log_probs(model, utterance)
        expected = oracle.decode_beams(
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
    oracle.cleanup()
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
    shared_dir: Path, en_small: Path, model: LoadedModel, speech: str, count: int
) -> None:
    utterances = read_manifest(shared_dir / speech / "manifest.jsonl")
    assert len(utterances) == count
    different, worst = compare(en_small, read_model_config(en_small), model, utterances)
    assert different <= 0.01 * count
    assert worst < 1e-3
