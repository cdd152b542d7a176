"""Check that the training benchmarks use en-small's recordings, without synthetic speech."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from streamasr.training.config import load_recipe


def test_only_the_synthetic_manifest_is_left_out(
    load_benchmark: Callable[[str], ModuleType],
) -> None:
    benchmark = load_benchmark("training_ablation")
    recipe = load_recipe("en-small").rooted(Path("/speech"))
    used = benchmark.recordings(Path("/speech"))
    left_out = set(recipe.data.manifests) - set(used.data.manifests)
    assert left_out == {Path("/speech/made/manifest.jsonl")}
    assert len(used.data.manifests) == 3
    assert used.data.dev_manifests == recipe.data.dev_manifests
    assert used.augment == recipe.augment
