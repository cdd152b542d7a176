"""Which transcripts a model can learn from or be measured by, and what is wrong with the others. Reads no audio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamasr.errors import DataError
from streamasr.manifest import Utterance, read_manifest
from streamasr.training.config import TrainConfig
from streamasr.training.tokenizer import Tokenizer

_NAMED = 3
"""Faults that a message names; it counts all of them."""


@dataclass(frozen=True, slots=True)
class Transcripts:
    """Utterances with their token ids, and what was wrong with those that have none."""

    utterances: tuple[Utterance, ...]
    token_ids: tuple[list[int] | None, ...]
    """Of each utterance; ``None`` where the model cannot write its transcript."""
    problems: tuple[str, ...]
    """File and reason of every transcript that cannot be used, in words."""
    total: int
    """Transcripts that were looked at."""


def training_transcripts(
    manifests: Sequence[Path], tokenizer: Tokenizer, unusable_share: float
) -> Transcripts:
    """The utterances that something can be learnt from; the others are left out.

    Raises:
        DataError: a manifest cannot be read, or more than ``unusable_share`` of the transcripts, or all of them, are
            empty or hold what no token stands for.
    """
    every = [utterance for path in manifests for utterance in read_manifest(path)]
    problems = [tokenizer.why_unusable(utterance.text) for utterance in every]
    kept = tuple(utterance for utterance, problem in zip(every, problems, strict=True) if problem is None)
    named = _named(every, problems)
    if len(named) > unusable_share * len(every) or not kept:
        raise DataError(
            f"{len(named)} of {len(every)} training transcripts cannot be used, and data.unusable_share allows "
            f"{unusable_share:.1%}: {'; '.join(named[:_NAMED])}; `streamasr data check --tokens RECIPE` lists all"
        )
    return Transcripts(kept, tuple(tokenizer.encode(each.text) for each in kept), named, len(every))


def dev_transcripts(manifest: Path, tokenizer: Tokenizer) -> Transcripts:
    """All of a dev manifest's utterances: error rates leave nothing out, and an empty transcript may be meant so.

    Raises:
        DataError: the manifest cannot be read.
    """
    every = read_manifest(manifest)
    problems = [tokenizer.why_unusable(each.text) if each.text.strip() else None for each in every]
    ids = tuple(
        tokenizer.encode(each.text) if problem is None else None
        for each, problem in zip(every, problems, strict=True)
    )
    return Transcripts(tuple(every), ids, _named(every, problems), len(every))


def require_manifests(config: TrainConfig) -> None:
    """See that every manifest of a recipe is there, before anything long begins.

    Raises:
        DataError: some are not; the message names all of them, and the commands that make manifests.
    """
    data = config.data
    named = (*data.manifests, *data.untranscribed_manifests, *data.noise_manifests, *data.dev_manifests)
    missing = [path for path in dict.fromkeys(named) if not path.is_file()]
    if missing:
        folder = missing[0].parent if len(missing) == 1 else "FOLDER"
        raise DataError(
            f"{', '.join(map(str, missing))}: no such file. `streamasr data import` makes manifests of recordings, "
            f"`streamasr synthesise TEXT --out {folder}` those of made speech: the recipe's comments and "
            "docs/data.md have the commands. A recipe's relative paths start at --data."
        )


def _named(utterances: Iterable[Utterance], problems: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(
        f"{utterance.audio}: {problem}"
        for utterance, problem in zip(utterances, problems, strict=True)
        if problem is not None
    )
