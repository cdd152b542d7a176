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
    assert decoder.initial_state().rules.max_silence_frames == 20


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


def _model_folder(folder: Path, words: bytes, arpa: str | None = None) -> Path:
    TOKENS.save(folder / "tokens.txt")
    path = write_arpa(folder)
    text = path.read_text(encoding="utf-8") if arpa is None else arpa
    (folder / "lm.bin").write_text(text, encoding="utf-8")
    (folder / "unigrams.txt").write_bytes(words)
    return folder


def _upper_case_arpa(folder: Path) -> str:
    lines = write_arpa(folder).read_text(encoding="utf-8").splitlines()
    return "\n".join(
        "\t".join(
            " ".join(w if w.startswith("<") else w.upper() for w in column.split(" ")) if at == 1 else column
            for at, column in enumerate(line.split("\t"))
        )
        for line in lines
    )


def test_an_upper_case_language_model_is_refused(tmp_path: Path) -> None:
    words = "\n".join(kenlm_model()[1])
    _model_folder(tmp_path, words.encode(), _upper_case_arpa(tmp_path))
    with pytest.raises(ModelError, match=r"lm\.bin: has none of the words of unigrams\.txt, .*case"):
        load_decoder(tmp_path, CONFIG, frame_ms=20.0)


def test_upper_case_words_that_the_model_cannot_spell_are_refused(tmp_path: Path) -> None:
    words = "\n".join(kenlm_model()[1]).upper()
    _model_folder(tmp_path, words.encode(), _upper_case_arpa(tmp_path))
    with pytest.raises(ModelError, match=r"unigrams\.txt: the model can spell none of its first .*case"):
        load_decoder(tmp_path, CONFIG, frame_ms=20.0)


def test_a_lexicon_of_which_the_language_model_lacks_most_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = kenlm_model()[1]
    missing = [f"{word}qq" for word in words] + ["zz"]
    _model_folder(tmp_path, "\n".join([*words, *missing]).encode())
    load_decoder(tmp_path, CONFIG, frame_ms=20.0)
    assert f"lacks {len(missing)} of the {len(words) + len(missing)} words of unigrams.txt" in caplog.text


@pytest.mark.parametrize(("mark", "newline"), [(b"\xef\xbb\xbf", b"\n"), (b"", b"\r\n")], ids=["BOM", "CRLF"])
def test_a_lexicon_with_a_byte_order_mark_or_carriage_returns_is_read(
    tmp_path: Path, mark: bytes, newline: bytes
) -> None:
    words = kenlm_model()[1]
    _model_folder(tmp_path, mark + newline.join(word.encode() for word in words) + newline)
    lm = load_decoder(tmp_path, CONFIG, frame_ms=20.0).beams.lm
    assert lm is not None
    assert all(lm.score_partial(word) == 0 for word in words)


def test_an_empty_lexicon_is_refused(tmp_path: Path) -> None:
    _model_folder(tmp_path, b"\r\n")
    with pytest.raises(ModelError, match=r"unigrams\.txt: empty"):
        load_decoder(tmp_path, CONFIG, frame_ms=20.0)


def test_a_missing_lexicon_is_refused(tmp_path: Path) -> None:
    (_model_folder(tmp_path, b"the\n") / "unigrams.txt").unlink()
    with pytest.raises(ModelError, match=r"unigrams\.txt: no such file"):
        load_decoder(tmp_path, CONFIG, frame_ms=20.0)


@pytest.mark.parametrize("content", ["", "\ufeff"], ids=["empty", "BOM"])
def test_an_arpa_that_is_empty_or_begins_with_a_byte_order_mark_is_refused(
    tmp_path: Path, content: str
) -> None:
    arpa = content and content + write_arpa(tmp_path).read_text(encoding="utf-8")
    _model_folder(tmp_path, b"the\n", arpa)
    with pytest.raises(ModelError, match=r"lm\.bin: not a KenLM model"):
        load_decoder(tmp_path, CONFIG, frame_ms=20.0)


def test_an_arpa_with_carriage_returns_scores_as_without(tmp_path: Path) -> None:
    words = "\n".join(kenlm_model()[1]).encode()
    arpa = write_arpa(tmp_path).read_text(encoding="utf-8")
    scores = []
    for newline in ("\n", "\r\n"):
        folder = tmp_path / repr(newline)
        folder.mkdir()
        _model_folder(folder, words, arpa.replace("\n", newline))
        lm = load_decoder(folder, CONFIG, frame_ms=20.0).beams.lm
        assert lm is not None
        score, state = lm.score(lm.start_state, "the")
        scores.append((score, lm.score_end(state)))
    assert scores[0] == scores[1]
