"""Test token lists: their file, spelling, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyctcdecode.alphabet import Alphabet

from streamasr.decoding.tokens import TokenList, collapse
from streamasr.errors import ConfigError, ModelError

TOKENS = TokenList.of_characters("'abc")


def test_a_saved_list_loads_equal(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    TOKENS.save(path)
    assert path.read_text() == "<blank>\n<space>\n'\na\nb\nc\n"
    assert TokenList.load(path) == TOKENS


def test_blank_and_separator_may_be_anywhere() -> None:
    tokens = TokenList(("a", "<space>", "b", "<blank>"))
    assert (tokens.blank, tokens.separator, len(tokens)) == (3, 1, 4)
    assert tokens.decode([0, 3, 1, 2]) == "a b"


def test_pyctcdecode_makes_the_same_alphabet_of_the_labels() -> None:
    assert TOKENS.labels == ["", " ", "'", "a", "b", "c"]
    assert Alphabet.build_alphabet(TOKENS.labels).labels == TOKENS.labels


def test_encoding_and_decoding_keep_the_text() -> None:
    assert TOKENS.encode("  ab  ca' ") == [3, 4, 1, 5, 3, 2]
    assert TOKENS.decode(TOKENS.encode("  ab  ca' ")) == "ab ca'"


def test_a_character_without_a_token_is_named() -> None:
    with pytest.raises(ConfigError, match="'abz': this model has no token for 'z'"):
        TOKENS.encode("abz")


def test_spelling_uses_the_case_that_the_model_has() -> None:
    assert TOKENS.spell(" Ab  C") == "ab c"
    assert TokenList.of_characters("ABC").spell("ab c") == "AB C"
    assert TokenList.of_characters("ABCabc").spell("aB") == "aB"
    with pytest.raises(ConfigError, match="no token for 'é'"):
        TOKENS.spell("Abé")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["<space>", "a"], "<blank> exactly once, found 0"),
        (["<blank>", "<blank>", "<space>"], "<blank> exactly once, found 2"),
        (["<blank>", "<space>", "a", "b", "a"], "repeats 'a'"),
        (["<blank>", "<space>", "ab"], "token 2 is 'ab'"),
        (["<blank>", "<space>", "", "a"], "token 2 is ''"),
        (["<blank>", "<space>", " ", "a"], "token 2 is ' '"),
        (["<blank>", "ab"], "token 1 is 'ab'"),
        (["<blank>", "▁a", "<space>"], "token 2 is '<space>'; expected <blank> or a word piece"),
        (["<s>", "▁a", "<blank>"], "token 0 is '<s>'"),
        (["<blank>", "▁a▁"], "token 1 is '▁a▁'"),
        (["<blank>", "▁a", "b c"], "token 2 is 'b c'"),
    ],
)
def test_the_message_names_the_file_that_is_not_a_token_list(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ModelError, match=message) as caught:
        TokenList.load(path)
    assert str(path) in caught.value.message


def test_the_message_names_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokens\.txt: no such file"):
        TokenList.load(tmp_path / "tokens.txt")
    (tmp_path / "tokens.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"tokens\.txt: not UTF-8"):
        TokenList.load(tmp_path / "tokens.txt")


def test_collapsing_keeps_repeats_with_a_blank_between() -> None:
    assert collapse([0, 3, 3, 0, 3, 4, 4, 0], blank=0) == [3, 3, 4]
    assert collapse([], blank=0) == []


PIECES = TokenList(("<blank>", "▁", "▁th", "e", "▁the", "m", "▁a", "é"))
CHARACTERS = TokenList.of_characters("你好吗ab", separator=False)


def test_the_kind_of_a_list_follows_from_its_tokens() -> None:
    assert [tokens.kind for tokens in (TOKENS, PIECES, CHARACTERS)] == ["letters", "pieces", "characters"]
    assert [tokens.separator for tokens in (TOKENS, PIECES, CHARACTERS)] == [1, 1, None]
    assert PIECES.pieces == ("", "", "th", "e", "the", "m", "a", "é")
    assert PIECES.starts_word == (False, True, True, False, True, False, True, False)
    assert CHARACTERS.starts_word == (False, *[True] * 5)


def test_word_pieces_spell_with_as_few_tokens_as_possible() -> None:
    assert PIECES.encode("the  them a") == [4, 4, 5, 6]
    assert PIECES.encode("me") == [1, 5, 3]
    assert PIECES.decode([2, 3, 0, 6, 1, 5, 3, 1]) == "the a me"
    assert PIECES.spell(" THE Thé") == "the thé"
    with pytest.raises(ConfigError, match="'the thx': this model has no token for 'x'"):
        PIECES.encode("the thx")


def test_characters_that_are_words_are_written_without_spaces() -> None:
    assert CHARACTERS.encode("你 好吗") == [1, 2, 3]
    assert CHARACTERS.decode([1, 0, 2, 4, 5, 3]) == "你好 a b 吗"
    assert CHARACTERS.spell("你好 AB") == "你 好 a b"


@pytest.mark.parametrize("tokens", [PIECES, CHARACTERS])
def test_pyctcdecode_takes_the_labels_for_pieces(tokens: TokenList) -> None:
    alphabet = Alphabet.build_alphabet(tokens.labels)
    assert alphabet.is_bpe
    assert alphabet.labels == tokens.labels
