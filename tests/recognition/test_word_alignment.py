"""Test the alignment of a reference to audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streamasr.decoding.tokens import TokenList
from streamasr.errors import DataError
from streamasr.media.reader import read_audio
from streamasr.recognition import word_alignment
from streamasr.recognition.api import transcribe
from streamasr.recognition.model import load_model
from streamasr.recognition.word_alignment import align_words, token_frames
from streamasr.scoring import align
from tests.recognition.tiny import tiny_model

CLIPS = Path(__file__).parents[1] / "data" / "librispeech"
TOKENS = TokenList.of_characters("abc")


def log_probs(frames: str) -> NDArray[np.float64]:
    """Return log-probs with the tokens of ``frames``, each a character, ``_`` for the blank."""
    ids = {"_": TOKENS.blank, " ": TOKENS.separator} | {c: TOKENS.encode(c)[0] for c in "abc"}
    log_probs_TV = np.full((len(frames), len(TOKENS)), np.log(0.01))
    for row_V, character in zip(log_probs_TV, frames, strict=True):
        row_V[ids[character]] = np.log(0.96)
    return log_probs_TV


@pytest.mark.parametrize(
    ("frames", "words", "spans"),
    [
        ("_ab_ _c_", ["ab", "c"], [(1, 3), (6, 7)]),
        ("aa_a c", ["aa", "c"], [(0, 4), (5, 6)]),
        ("__a___", ["a"], [(2, 3)]),
        ("_ab_ _cc", ["ab", "c"], [(1, 3), (6, 8)]),
    ],
)
def test_words_lie_where_their_tokens_are(
    frames: str, words: list[str], spans: list[tuple[int, int]]
) -> None:
    assert token_frames(log_probs(frames), TOKENS, words) == spans


def test_a_wrong_reference_is_aligned_as_well_as_can_be() -> None:
    spans = token_frames(log_probs("_ab_ _c_"), TOKENS, ["cb", "a"])
    assert [end - start for start, end in spans] == [2, 1]
    assert spans[0][1] <= spans[1][0]


@pytest.mark.parametrize("frames", ["", "a", "ab"])
def test_too_little_audio_is_an_error(frames: str) -> None:
    with pytest.raises(
        DataError, match=f"the audio has {len(frames)} encoder frames, too few for the 3 tokens"
    ):
        token_frames(log_probs(frames), TOKENS, ["aba"])


def test_bad_references_get_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    with pytest.raises(DataError, match="the reference has no words"):
        align_words(model, np.zeros(16_000, dtype=np.float32), "  ")
    monkeypatch.setattr(word_alignment, "MAX_AUDIO_S", 1)
    with pytest.raises(DataError, match="only audio of up to 1 s is aligned"):
        align_words(model, np.zeros(16_001, dtype=np.float32), "a")


def test_the_times_are_those_of_the_models_own_words() -> None:
    model = load_model("en-small", "cpu")
    samples_S = read_audio(CLIPS / "3607-135982-0000.flac", model.sample_rate)[: 6 * 16_000]
    transcript = transcribe(model, samples_S)
    recognised = [word for final in transcript.utterances for word in final.words]
    aligned = align_words(model, samples_S, transcript.text.capitalize() + ".")
    assert [word.text for word in aligned] == [word.word for word in recognised]
    distances = [abs(a.end_ms - b.end_ms) for a, b in zip(aligned, recognised, strict=True)]
    assert len(distances) >= 8
    assert np.median(distances) <= 60
    assert align([word.text for word in aligned], transcript.text.split())
