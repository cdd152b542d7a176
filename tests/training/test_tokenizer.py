"""Test the tokenizer with each kind of token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from streamasr.decoding.tokens import TokenList
from streamasr.errors import ConfigError, DataError
from streamasr.text import text_rules
from streamasr.training.config import DataConfig, TokensConfig, TrainConfig
from streamasr.training.tokenizer import build_tokenizer
from streamasr.training.vocabulary import SentencePieceConfig, count_characters, train_sentencepiece

ENGLISH = ["the boat left the harbour", "she read the letter", "it's the end of the lane", "the other boat"]
SIZE = 24


def recipe(tokens: TokensConfig, language: str = "en", manifest: Path = Path("none.jsonl")) -> TrainConfig:
    return TrainConfig(name="t", language=language, tokens=tokens, data=DataConfig(manifests=(manifest,)))


@pytest.fixture(scope="module")
def pieces_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pieces") / "tokenizer.model"
    path.write_bytes(train_sentencepiece(ENGLISH, text_rules("en"), SentencePieceConfig(size=SIZE)))
    return path


def test_characters_have_a_separator_between_words_and_utterances() -> None:
    tokenizer = build_tokenizer(recipe(TokensConfig(characters="abc")))
    assert tokenizer.encode("Ab, C!") == [2, 3, 1, 4]
    assert tokenizer.decode([2, 3, 1, 4]) == "ab c"
    assert tokenizer.separator == 1


@pytest.mark.parametrize("method", ["bpe", "unigram"])
def test_pieces_encode_and_decode_their_training_text(
    tmp_path: Path, method: Literal["bpe", "unigram"]
) -> None:
    path = tmp_path / "any.model"
    config = SentencePieceConfig(size=SIZE, method=method)
    path.write_bytes(train_sentencepiece(ENGLISH, text_rules("en"), config))
    tokenizer = build_tokenizer(recipe(TokensConfig(kind="pieces", file=path)))
    assert len(tokenizer.tokens) == SIZE
    assert tokenizer.tokens.kind == "pieces"
    assert tokenizer.separator is None
    for text in ENGLISH:
        ids = tokenizer.encode(text.upper())
        assert tokenizer.decode(ids) == text
        assert tokenizer.tokens.blank not in ids
        assert len(ids) < len(text)


def test_the_same_text_gives_the_same_pieces(pieces_model: Path) -> None:
    again = train_sentencepiece(ENGLISH, text_rules("en"), SentencePieceConfig(size=SIZE))
    assert again == pieces_model.read_bytes()


def test_a_model_folder_gets_the_token_list_and_the_sentencepiece_model(
    pieces_model: Path, tmp_path: Path
) -> None:
    tokenizer = build_tokenizer(recipe(TokensConfig(kind="pieces", file=pieces_model)))
    tokenizer.save(tmp_path)
    assert TokenList.load(tmp_path / "tokens.txt") == tokenizer.tokens
    assert (tmp_path / "tokenizer.model").read_bytes() == pieces_model.read_bytes()
    build_tokenizer(recipe(TokensConfig(characters="abc"))).save(tmp_path)
    assert (tmp_path / "tokens.txt").read_text().split() == ["<blank>", "<space>", "a", "b", "c"]


def test_mandarin_characters_are_collected_from_the_training_transcripts(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    rows = [
        {"audio_filepath": "a.wav", "duration": 1.0, "text": text} for text in ("今天 天气", "Ｋ歌，好！")
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tokens = TokensConfig(kind="collected", separator=False)
    tokenizer = build_tokenizer(recipe(tokens, "zh", manifest))
    assert tokenizer.tokens.tokens == ("<blank>", *sorted("今天气k歌好"))
    assert tokenizer.separator is None
    assert tokenizer.decode(tokenizer.encode("今天，天气 好。")) == "今天天气好"
    with pytest.raises(DataError, match=r"characters outside the tokens: \['雨'\] in '今天雨好'"):
        tokenizer.encode("今天雨好")


def test_a_collected_file_is_used_as_it_is(tmp_path: Path, pieces_model: Path) -> None:
    path = tmp_path / "tokens.txt"
    TokenList.of_characters("好你", separator=False).save(path)
    tokenizer = build_tokenizer(recipe(TokensConfig(file=path), "zh"))
    assert tokenizer.encode("你好") == [2, 1]
    TokenList(("<blank>", "▁a")).save(path)
    with pytest.raises(ConfigError, match=r"lists word pieces; set tokens\.kind"):
        build_tokenizer(recipe(TokensConfig(file=path)))


def test_characters_that_cannot_be_spelt_are_named(pieces_model: Path) -> None:
    letters = build_tokenizer(recipe(TokensConfig(characters="ab")))
    with pytest.raises(DataError, match=r"characters outside the tokens: \['c', 'd'\] in 'ab dc'"):
        letters.encode("ab dc")
    with pytest.raises(
        DataError, match=r"\['%', '1', '5'\] in '15 % ab': write numbers .* as they are spoken"
    ):
        letters.encode("15 % ab")
    with pytest.raises(DataError, match=r"outside the tokens: \['q', 'z'\]"):
        build_tokenizer(recipe(TokensConfig(kind="pieces", file=pieces_model))).encode("the quiz boat")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (
            TokensConfig(file=Path("nowhere.txt")),
            r"tokens\.file: nowhere\.txt: no such file; `streamasr tokens",
        ),
        (TokensConfig(kind="pieces", file=Path("nowhere.model")), "no such file; `streamasr tokens train`"),
        (TokensConfig(kind="pieces", file=Path(__file__)), "not a SentencePiece model"),
    ],
)
def test_a_missing_file_or_one_of_another_kind_is_refused(tokens: TokensConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_tokenizer(recipe(tokens))


def test_a_sentencepiece_model_with_control_pieces_is_refused(tmp_path: Path) -> None:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(ENGLISH),
        model_prefix=str(tmp_path / "m"),
        vocab_size=SIZE,
        model_type="bpe",
        minloglevel=2,
    )
    with pytest.raises(ConfigError, match=r"no control pieces, got \['<s>', '</s>'\]"):
        build_tokenizer(recipe(TokensConfig(kind="pieces", file=tmp_path / "m.model")))


def test_inconsistent_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"kind pieces needs a tokenizer\.model"):
        TokensConfig(kind="pieces")
    with pytest.raises(ConfigError, match="kind collected takes its tokens from the transcripts"):
        TokensConfig(kind="collected", file=Path("tokens.txt"))


def test_vocabularies_are_made_of_normalised_text() -> None:
    assert count_characters(["Ab a!", "B"], text_rules("en")) == {"a": 2, "b": 2}
    with pytest.raises(DataError, match="no characters of 'zh'"):
        count_characters(["...", "12"], text_rules("zh"))
    with pytest.raises(DataError, match="has no words"):
        train_sentencepiece(["...", ""], text_rules("en"), SentencePieceConfig())
    with pytest.raises(ConfigError, match="cannot make 9999 pieces of this text: Vocabulary size too high"):
        train_sentencepiece(ENGLISH, text_rules("en"), SentencePieceConfig(size=9999))
    with pytest.raises(ConfigError, match="size must be positive"):
        SentencePieceConfig(size=0)
