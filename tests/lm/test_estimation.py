"""Test counting, smoothing and pruning against slow reference code and the laws of probability."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from streamasr.errors import DataError
from streamasr.lm.corpus import BEGIN, BEGIN_ID, END, SPECIALS, TextCorpus, choose_vocabulary, encode
from streamasr.lm.kneser_ney import FALLBACK_DISCOUNTS, BackoffModel, Floats, discounts, estimate
from streamasr.lm.ngrams import NgramTable, count_ngrams
from streamasr.lm.prune import entropy_scores, prune, select_ngrams, threshold_for_size


def zipf_sentences(seed: int, sentences: int = 400) -> list[str]:
    """Generate text with the word frequencies of Zipf's law."""
    rng = np.random.default_rng(seed)
    ranks = rng.zipf(1.4, size=(sentences, 8)) % 60
    return [" ".join(f"w{rank}" for rank in row[: 2 + row[0] % 7]) for row in ranks]


def make_corpus(*sources: list[str], max_words: int = 40) -> TextCorpus:
    everything = [sentence for source in sources for sentence in source]
    return encode(sources, choose_vocabulary(everything, max_words=max_words, min_count=1))


def make_model(order: int = 3, seeds: tuple[int, ...] = (0,)) -> BackoffModel:
    corpus = make_corpus(*map(zipf_sentences, seeds))
    weights = [1 / len(seeds)] * len(seeds)
    return estimate(corpus.words, count_ngrams(corpus, order), weights)


def texts(words: tuple[str, ...], tables: list[NgramTable]) -> list[list[str]]:
    """Return the text of each row of each table, built from its prefix."""
    spelt = [list(words)]
    for table in tables[1:]:
        rows = zip(table.prefix, table.word, strict=True)
        spelt.append([f"{spelt[-1][prefix]} {words[word]}" for prefix, word in rows])
    return spelt


def test_counts_are_those_of_all_windows_without_unknown_words() -> None:
    sentences = ["a b a b", "b z a", "a b"]
    corpus = encode([sentences], (*SPECIALS, "a", "b"))
    tables = count_ngrams(corpus, 3)
    expected: list[Counter[str]] = [Counter(), Counter(), Counter()]
    for sentence in sentences:
        padded = [BEGIN, *sentence.split(), END]
        for k in (1, 2, 3):
            windows = [padded[i : i + k] for i in range(len(padded) - k + 1)]
            expected[k - 1].update(" ".join(w) for w in windows if "z" not in w)
    for k, (table, spelt) in enumerate(zip(tables, texts(corpus.words, tables), strict=True)):
        counted = {text: count for text, count in zip(spelt, table.count[0], strict=True) if text != "<unk>"}
        assert counted == expected[k]


def test_prefix_suffix_and_first_word_are_correct() -> None:
    corpus = make_corpus(zipf_sentences(3))
    tables = count_ngrams(corpus, 4)
    spelt = texts(corpus.words, tables)
    for k in (1, 2, 3):
        table = tables[k]
        for row, text in enumerate(spelt[k]):
            first, _, rest = text.partition(" ")
            assert spelt[k - 1][table.suffix[row]] == rest
            assert corpus.words[table.first[row]] == first


def test_sources_are_counted_separately() -> None:
    corpus = make_corpus(zipf_sentences(1), zipf_sentences(2, sentences=50))
    separate = [
        make_counts(corpus, slice(*bounds)) for bounds in ((0, corpus.source_ends[0]), corpus.source_ends)
    ]
    for k, table in enumerate(count_ngrams(corpus, 3)):
        spelt = texts(corpus.words, count_ngrams(corpus, 3))[k]
        for source in (0, 1):
            counted = dict(zip(spelt, table.count[source].tolist(), strict=True))
            assert {text: count for text, count in counted.items() if count} == separate[source][k]


def make_counts(corpus: TextCorpus, part: slice) -> list[dict[str, int]]:
    ids = corpus.ids[part]
    alone = TextCorpus(corpus.words, ids, (len(ids),))
    tables = count_ngrams(alone, 3)
    spelt = texts(corpus.words, tables)
    return [
        {text: int(count) for text, count in zip(names, table.count[0], strict=True) if count}
        for names, table in zip(spelt, tables, strict=True)
    ]


def test_discounts_follow_chen_and_goodman() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [40, 12, 6, 4, 10])
    y = 40 / (40 + 2 * 12)
    assert discounts(counts) == pytest.approx((1 - 2 * y * 12 / 40, 2 - 3 * y * 6 / 12, 3 - 4 * y * 4 / 6))


@pytest.mark.parametrize("counts", [[1, 1, 2], [1, 2, 3, 4, 4, 4, 4, 4, 4]])
def test_discounts_have_a_fallback_for_unusable_counts_of_counts(counts: list[int]) -> None:
    assert tuple(discounts(np.array(counts))) == FALLBACK_DISCOUNTS


def distribution(model: BackoffModel, history: tuple[int, ...]) -> Floats:
    """Return P(word | history) for each word id, by the definition of a back-off model."""
    if not history:
        return model.orders[0].prob
    lower = distribution(model, history[1:])
    row = history[0]
    for k, word in enumerate(history[1:], start=1):
        table = model.orders[k].table
        found = np.flatnonzero((table.prefix == row) & (table.word == word))
        if not len(found):
            return lower
        row = int(found[0])
    k = len(history)
    above = model.orders[k]
    explicit = above.table.prefix == row
    full = lower * (model.backoff(k)[row] if explicit.any() else 1.0)
    full[above.table.word[explicit]] = above.prob[explicit]
    return full


@pytest.mark.parametrize("seeds", [(0,), (0, 5)])
@pytest.mark.parametrize("threshold", [0.0, 1e-4])
def test_probabilities_sum_to_one_after_any_history(seeds: tuple[int, ...], threshold: float) -> None:
    model = make_model(seeds=seeds)
    model = prune(model, select_ngrams(model, entropy_scores(model), threshold))
    rng = np.random.default_rng(0)
    for _ in range(40):
        history = tuple(rng.integers(1, len(model.words), size=rng.integers(0, 3)).tolist())
        if END in (model.words[w] for w in history) or 1 in history[1:]:
            continue
        assert distribution(model, history).sum() == pytest.approx(1.0, abs=1e-9), history


def test_unknown_words_keep_a_small_probability_and_the_beginning_is_never_predicted() -> None:
    unknown, begin = make_model().orders[0].prob[:2]
    assert 0 < unknown < 0.01
    assert begin == 0


def test_a_source_with_weight_zero_changes_nothing() -> None:
    corpus = make_corpus(zipf_sentences(1), zipf_sentences(2))
    tables = count_ngrams(corpus, 3)
    one_sided = estimate(corpus.words, tables, (1.0, 0.0))
    even = estimate(corpus.words, tables, (0.5, 0.5))
    other = estimate(corpus.words, tables, (0.0, 1.0))
    for a, b, c in zip(one_sided.orders, even.orders, other.orders, strict=True):
        np.testing.assert_allclose((a.prob + c.prob) / 2, b.prob, rtol=1e-12)
        seen = a.table.count[0] > 0
        assert np.all(a.frequency[seen] > 0)
        assert np.all(a.frequency[~seen] == 0)


def test_scores_are_the_relative_entropy_of_removing_an_ngram() -> None:
    model = make_model(order=2)
    scores = entropy_scores(model)[1]
    for row in (0, 7, 31):
        mask = np.ones(len(model.orders[1]), dtype=bool)
        mask[row] = False
        without = prune(model, [np.ones(len(model.orders[0]), dtype=bool), mask])
        history = (int(model.orders[1].table.first[row]),)
        p, q = (np.delete(distribution(lm, history), BEGIN_ID) for lm in (model, without))
        expected = model.orders[0].frequency[history[0]] * float(np.sum(p * np.log(p / q)))
        assert scores[row] == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_pruning_keeps_prefixes_and_suffixes_and_nothing_with_lower_scores() -> None:
    model = make_model()
    scores = entropy_scores(model)
    kept = select_ngrams(model, scores, 1e-4)
    small = prune(model, kept)
    assert small.counts[0] == model.counts[0]
    assert all(0 < now < before for now, before in zip(small.counts[1:], model.counts[1:], strict=True))
    assert np.all(kept[2] == (scores[2] >= 1e-4))
    for order, below in zip(small.orders[1:], small.orders[:-1], strict=True):
        assert order.table.prefix.min() >= 0
        assert order.table.suffix.max() < len(below)
    before = set(texts(model.words, [order.table for order in model.orders])[2])
    assert set(texts(small.words, [order.table for order in small.orders])[2]) < before


def test_the_threshold_gives_the_largest_model_that_fits() -> None:
    model = make_model()
    scores = entropy_scores(model)
    max_bytes = sum(model.counts) // 2
    threshold = threshold_for_size(model, scores, sum, max_bytes)
    size = sum(int(mask.sum()) for mask in select_ngrams(model, scores, threshold))
    assert max_bytes * 0.97 <= size <= max_bytes
    assert threshold_for_size(model, scores, sum, sum(model.counts)) == 0.0


def test_a_vocabulary_that_is_too_large_is_refused() -> None:
    model = make_model()
    with pytest.raises(DataError, match="fewer words"):
        threshold_for_size(model, entropy_scores(model), sum, 10)


def test_the_model_predicts_its_training_text_better_than_word_frequencies() -> None:
    """Higher orders must learn from the order of words."""
    sentences = ["the cat sat on the mat", "the dog sat on the rug", "a cat ran to the dog"] * 5
    corpus = make_corpus(sentences)
    model = estimate(corpus.words, count_ngrams(corpus, 3), (1.0,))
    sat, on = corpus.words.index("sat"), corpus.words.index("on")
    assert math.log(distribution(model, (sat,))[on]) > math.log(model.orders[0].prob[on]) + 1
