"""Write a back-off model as a KenLM binary: a trie with quantised values that can be memory-mapped.

K. Heafield, "KenLM: faster and smaller language model queries", WMT (2011), section 3.2. In KenLM's terms this is
the model type "trie with quantization", format version 5, which ``build_binary -q 8 -b 8 trie`` writes. The layout,
all little-endian, is::

    header     magic, test values, order, counts
    vocabulary number of words, then their MurmurHash64A, ascending; a word's id is its rank, <unk> is 0
    bins       for each order above 1, the values of its quantisation bins
    unigrams   (log10 prob, log10 back-off, first bigram) of each word
    order k    bit-packed (first word, back-off bin, prob bin, first child), sorted by wk, wk-1, …, w1
    words      zero-terminated, in the order of their ids

The trie is read from the last word of an n-gram to the first; the parent of an entry is its suffix.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamasr.lm.arpa import log10
from streamasr.lm.corpus import SPECIALS
from streamasr.lm.kneser_ney import BackoffModel, BackoffOrder

MIN_ORDER, MAX_ORDER = 2, 6
"""Orders that the ``kenlm`` package reads as pip builds it."""
PROB_BITS = BACKOFF_BITS = 8

_MAGIC = b"mmap lm http://kheafield.com/code format version 5\n\0"
_QUANTISED_TRIE = 3
_TRIE_VERSION = 1
_QUANTISER_VERSION = 2
_PROBING_MULTIPLIER = 1.5
_SPARE_BYTES = 8
"""Bytes after each bit-packed array, so that a reader can load eight bytes from any position in it."""
_PACK_ROWS = 1 << 16
"""Number of entries packed at a time; a multiple of eight, so that each batch ends on a full byte."""
_EXTENDED_ZERO, _FINAL_ZERO = 0.0, -0.0
"""The two back-offs of zero: of an n-gram with longer ones that start with it, and of one without."""

Bins = NDArray[np.float32]
Ints = NDArray[np.int64]


def binary_size(counts: Sequence[int], word_bytes: int) -> int:
    """Return the size of a file in bytes.

    Args:
        counts: number of n-grams in each order, at least two orders.
        word_bytes: total UTF-8 length of all words, including the special ones.
    """
    vocabulary = counts[0]
    bins = 4 * ((len(counts) - 1) * (1 << PROB_BITS) + (len(counts) - 2) * (1 << BACKOFF_BITS))
    levels = 0
    for k, entries in enumerate(counts[1:], start=2):
        levels += _packed_bytes(entries, sum(_widths(counts, k)))
    unigrams = 16 * (vocabulary + 2)
    lookup = 8 * (1 + vocabulary)
    strings = word_bytes + vocabulary
    return len(_header(counts)) + lookup + 8 + bins + unigrams + levels + strings


def write_kenlm_binary(model: BackoffModel, path: Path) -> None:
    """Write ``model`` to ``path``; ``kenlm.Model(path)`` reads it in milliseconds.

    Values above order 1 are rounded to one of 256 bins with equal numbers of values. The suffix of each n-gram must
    be in the model, which :mod:`~streamasr.lm.prune` ensures.

    Raises:
        ValueError: the order is not between ``MIN_ORDER`` and ``MAX_ORDER``.
    """
    if not MIN_ORDER <= model.order <= MAX_ORDER:
        raise ValueError(f"a KenLM model has order {MIN_ORDER} to {MAX_ORDER}, not {model.order}")
    counts = model.counts
    hashes = np.array([murmur_hash_64a(word.encode()) for word in model.words], dtype=np.uint64)
    by_hash = 1 + np.argsort(hashes[1:])
    new_id = np.zeros(len(hashes), dtype=np.int64)
    new_id[by_hash] = np.arange(1, len(hashes))
    logs = [log10(order.prob).astype(np.float32) for order in model.orders]
    backoffs = [_log_backoffs(model, k) for k in range(1, model.order)]
    bins = [_level_bins(k, logs, backoffs) for k in range(2, model.order + 1)]
    ranks = _trie_ranks(model, new_id)

    with path.open("wb") as file:
        file.write(_header(counts))
        file.write(struct.pack("<Q", counts[0] - 1))
        file.write(hashes[by_hash].tobytes() + bytes(8))
        file.write(struct.pack("<BBB5x", _QUANTISER_VERSION, PROB_BITS, BACKOFF_BITS))
        for level in bins:
            file.writelines(table.tobytes() for table in level)
        file.write(_unigrams(model, logs[0], backoffs[0], ranks))
        for k in range(2, model.order + 1):
            in_order = np.argsort(ranks[k - 1])
            fields = [new_id[model.orders[k - 1].table.first[in_order]]]
            if k < model.order:
                fields.append(_backoff_bin(backoffs[k - 1][in_order], bins[k - 2][1]))
            fields.append(nearest_bin(logs[k - 1][in_order], bins[k - 2][0]))
            if k < model.order:
                fields.append(_first_children(model.orders[k], ranks[k - 1]))
            file.writelines(_pack(fields, _widths(counts, k)))
        words = [SPECIALS[0], *(model.words[i] for i in by_hash)]
        file.write(b"".join(word.encode() + b"\0" for word in words))


def _header(counts: Sequence[int]) -> bytes:
    sanity = struct.pack("<56s3f3IQ", _MAGIC, 0.0, 1.0, -0.5, 1, 2**32 - 1, 0, 1)
    kind = (_PROBING_MULTIPLIER, _QUANTISED_TRIE, True, _TRIE_VERSION)
    parameters = struct.pack("<B3xfI?3xI", len(counts), *kind)
    header = sanity + parameters + struct.pack(f"<{len(counts)}Q", *counts)
    return header + bytes(-len(header) % 8)


def _widths(counts: Sequence[int], k: int) -> list[int]:
    """Return the bits of an entry's fields in order k: first word, back-off bin, prob bin, first child."""
    word = int(counts[0]).bit_length()
    if k == len(counts):
        return [word, PROB_BITS]
    return [word, BACKOFF_BITS, PROB_BITS, int(counts[k]).bit_length()]


def _packed_bytes(entries: int, bits: int) -> int:
    """Return the bytes of a packed array, with an extra entry for the end of the last children, and spare bytes."""
    return ((1 + entries) * bits + 7) // 8 + _SPARE_BYTES


def _log_backoffs(model: BackoffModel, k: int) -> Bins:
    log_backoffs = np.log10(model.backoff(k)) + _EXTENDED_ZERO
    return np.where(model.has_extensions(k), log_backoffs, _FINAL_ZERO).astype(np.float32)


def _trie_ranks(model: BackoffModel, new_id: Ints) -> list[Ints]:
    """Return for each order the ranks of its n-grams, sorted by the last word, then the word before it, and so on."""
    ranks = [new_id]
    for order in model.orders[1:]:
        in_order = np.lexsort((new_id[order.table.first], ranks[-1][order.table.suffix]))
        rank = np.empty_like(in_order)
        rank[in_order] = np.arange(len(in_order))
        ranks.append(rank)
    return ranks


def _first_children(above: BackoffOrder, rank: Ints) -> Ints:
    """Return (N + 1,): for each rank, the first entry of ``above`` whose parent has this or a later rank."""
    children = np.bincount(rank[above.table.suffix], minlength=len(rank))
    return np.concatenate(([0], np.cumsum(children)))


def _unigrams(model: BackoffModel, logs: Bins, backoffs: Bins, ranks: Sequence[Ints]) -> bytes:
    records = np.zeros(len(logs) + 2, dtype=[("prob", "<f4"), ("backoff", "<f4"), ("next", "<u8")])
    records["prob"][ranks[0]] = logs
    records["backoff"][ranks[0]] = backoffs
    records["next"][:-1] = _first_children(model.orders[1], ranks[0])
    return records.tobytes()


def _level_bins(k: int, logs: Sequence[Bins], backoffs: Sequence[Bins]) -> list[Bins]:
    """Return the bins of order k: of probabilities and, below the highest order, of back-offs."""
    tables = [make_bins(logs[k - 1], (1 << PROB_BITS))]
    if k < len(logs):
        values = backoffs[k - 1]
        reserved = np.array([_FINAL_ZERO, _EXTENDED_ZERO], dtype=np.float32)
        tables.append(np.concatenate((reserved, make_bins(values[values != 0], (1 << BACKOFF_BITS) - 2))))
    return tables


def make_bins(values: Bins, bins: int) -> Bins:
    """Return (bins,): ascending centres, the means of ``bins`` equally large parts of the sorted values.

    With fewer values than bins, an empty bin repeats the one before; an empty first bin is minus infinity.
    """
    ordered = np.sort(values).astype(np.float64)
    edges = len(ordered) * np.arange(bins + 1) // bins
    sums = np.diff(np.concatenate(([0.0], np.cumsum(ordered)))[edges])
    sizes = np.diff(edges)
    means = np.divide(sums, sizes, out=np.full(bins, -np.inf), where=sizes > 0)
    return np.maximum.accumulate(means).astype(np.float32)


def nearest_bin(values: Bins, centres: Bins) -> Ints:
    """Return the index of the nearest centre for each value."""
    above = np.clip(np.searchsorted(centres, values), 1, len(centres) - 1)
    closer_below = values - centres[above - 1] < centres[above] - values
    nearest: Ints = above - closer_below
    return nearest


def _backoff_bin(values: Bins, centres: Bins) -> Ints:
    """Return the bin of each back-off, like :func:`nearest_bin`, with the first two bins for the two zeros only."""
    zero = np.where(np.signbit(values), 0, 1)
    return np.where(values == 0, zero, 2 + nearest_bin(values, centres[2:]))


def _pack(fields: Sequence[Ints], widths: Sequence[int]) -> Iterator[bytes]:
    """Yield the entries as a string of bits, lowest first; the field of children may have one more entry."""
    entries = max(map(len, fields))
    padded = [np.pad(column, (0, entries - len(column))) for column in fields]
    for start in range(0, entries, _PACK_ROWS):
        columns = [
            (column[start : start + _PACK_ROWS, None] >> np.arange(width)) & 1
            for column, width in zip(padded, widths, strict=True)
        ]
        yield np.packbits(np.concatenate(columns, axis=1).astype(np.uint8), bitorder="little").tobytes()
    grams = min(map(len, fields))
    written = (entries * sum(widths) + 7) // 8
    yield bytes(_packed_bytes(grams, sum(widths)) - written)


def murmur_hash_64a(data: bytes) -> int:
    """Return A. Appleby's MurmurHash64A (public domain) with seed 0, with which KenLM identifies words."""
    mask, multiplier = 2**64 - 1, 0xC6A4A7935BD1E995
    hashed = len(data) * multiplier & mask
    whole = len(data) // 8 * 8
    for (block,) in struct.iter_unpack("<Q", data[:whole]):
        mixed = block * multiplier & mask
        mixed = (mixed ^ mixed >> 47) * multiplier & mask
        hashed = (hashed ^ mixed) * multiplier & mask
    if len(data) > whole:
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * multiplier & mask
    hashed = (hashed ^ hashed >> 47) * multiplier & mask
    return hashed ^ hashed >> 47
