"""Check the tables marked ``numbers`` in docs/ctc.md and docs/ctc-example.md, and their code."""

from __future__ import annotations

import ast
import doctest
import itertools
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streamasr.decoding.tokens import collapse as collapse_ids
from tests.training.ctc_oracle import backward, forward, loss_and_occupancy, states_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("ctc.md", "ctc-example.md")
DOCUMENT = "\n".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in PAGES)
TOKENS = "–ab"
BLANK = 0
NOTHING = "(nothing)"
ROUNDED = 0.00051


def table(name: str) -> list[list[str]]:
    """The cells below the heading of the table ``name``."""
    found = re.search(rf"<!-- numbers: {re.escape(name)} -->\n\n((?:\|.*\n)+)", DOCUMENT)
    assert found is not None, f"{PAGES} have no table {name!r}"
    lines = [line.strip("| \n").split("|") for line in found[1].splitlines()]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def number(text: str) -> float:
    return float(text.replace("–", "-"))


def numbers(name: str) -> NDArray[np.float64]:
    """A table's cells but for its first column."""
    return np.array([[number(cell) for cell in row[1:]] for row in table(name)])


PROBABILITIES_TV = numbers("probabilities")
LOG_PROBS_TV = np.log(PROBABILITIES_TV)
AB, AA = [1, 2], [1, 1]


def collapse(path: tuple[int, ...]) -> str:
    return "".join(TOKENS[token] for token, _ in itertools.groupby(path) if token != BLANK)


def paths_by_text() -> dict[str, list[tuple[str, float]]]:
    """Every path of the example, by its text."""
    found = defaultdict(list)
    for path in itertools.product(range(3), repeat=len(PROBABILITIES_TV)):
        probability = float(np.prod([PROBABILITIES_TV[t, token] for t, token in enumerate(path)]))
        found[collapse(path)].append((" ".join(TOKENS[token] for token in path), probability))
    return found


def test_the_paths_of_the_example_are_all_there() -> None:
    *rows, last = table("paths of ab")
    assert {path: number(value) for path, value in rows} == pytest.approx(dict(paths_by_text()["ab"]))
    assert number(last[1]) == pytest.approx(sum(value for _, value in paths_by_text()["ab"]))
    ((path, value),) = paths_by_text()["aa"]
    assert f"`aa`, {path}, with the probability {value:.3f}" in DOCUMENT


def test_the_texts_of_the_example_are_all_there() -> None:
    documented = {row[0].replace(NOTHING, ""): (int(row[1]), number(row[2])) for row in table("texts")}
    true = {text: (len(paths), sum(value for _, value in paths)) for text, paths in paths_by_text().items()}
    assert documented.keys() == true.keys()
    for text, (count, probability) in documented.items():
        assert count == true[text][0]
        assert probability == pytest.approx(true[text][1])


@pytest.mark.parametrize(("target", "name"), [(AB, "ab"), (AA, "aa")])
def test_the_losses_are_those_of_the_recursion(target: list[int], name: str) -> None:
    loss, _ = loss_and_occupancy(LOG_PROBS_TV, target)
    assert loss == pytest.approx(-np.log(sum(value for _, value in paths_by_text()[name])))
    assert re.search(rf"\b{loss:.4f}\b", DOCUMENT)
    assert loss_and_occupancy(LOG_PROBS_TV[:2], AA)[0] == np.inf


def test_alpha_and_beta_are_those_of_the_recursions() -> None:
    states = states_of(AB, BLANK)
    alpha_TS = np.exp(forward(LOG_PROBS_TV, states, BLANK))
    beta_TS = np.exp(backward(LOG_PROBS_TV, states, BLANK))
    np.testing.assert_allclose(numbers("alpha"), alpha_TS, atol=ROUNDED)
    np.testing.assert_allclose(numbers("beta"), beta_TS, atol=ROUNDED)
    np.testing.assert_allclose((alpha_TS * beta_TS).sum(axis=1), [0.307] * 3)


def test_occupancy_and_gradient_are_those_of_the_oracle() -> None:
    _, occupancy_TV = loss_and_occupancy(LOG_PROBS_TV, AB)
    np.testing.assert_allclose(numbers("occupancy"), occupancy_TV, atol=ROUNDED)
    np.testing.assert_allclose(numbers("gradient"), PROBABILITIES_TV - occupancy_TV, atol=ROUNDED)


def test_the_best_path_is_less_probable_than_the_best_text() -> None:
    best = tuple(PROBABILITIES_TV.argmax(axis=1).tolist())
    assert f"the best path is {' '.join(TOKENS[token] for token in best)}" in DOCUMENT
    assert collapse(best) == "a"


def test_the_beams_are_the_probabilities_of_prefixes() -> None:
    for row in table("beams"):
        text = row[0].replace(NOTHING, "")
        for frames, cell in enumerate(row[1:], start=1):
            in_blank = in_token = 0.0
            for path in itertools.product(range(3), repeat=frames):
                if collapse(path) == text:
                    probability = float(np.prod([PROBABILITIES_TV[t, token] for t, token in enumerate(path)]))
                    in_blank += probability * (path[-1] == BLANK)
                    in_token += probability * (path[-1] != BLANK)
            assert [number(part) for part in cell.split(",")] == pytest.approx([in_blank, in_token])


def test_the_blank_is_wanted_most_where_nothing_is_known() -> None:
    ((tokens, frames, length, softmax, blank, letter),) = table("uniform")
    uniform_TV = np.full((int(frames), int(tokens)), -np.log(int(tokens)))
    _, occupancy_TV = loss_and_occupancy(uniform_TV, [1 + i % (int(tokens) - 1) for i in range(int(length))])
    assert number(softmax) == pytest.approx(1 / int(tokens), abs=ROUNDED)
    assert number(blank) == pytest.approx(occupancy_TV[:, BLANK].mean(), abs=ROUNDED)
    assert number(letter) == pytest.approx(occupancy_TV[:, 1:].mean(axis=0).max(), abs=ROUNDED)
    assert number(letter) < number(softmax) < number(blank)


def test_a_text_fits_into_the_frames_that_it_needs_and_not_into_fewer() -> None:
    for text, tokens, equal, needed in table("lengths"):
        spelt = [1 + sorted(set(text)).index(letter) for letter in text]
        assert (len(text), sum(a == b for a, b in itertools.pairwise(text))) == (int(tokens), int(equal))
        enough_TV = np.full((int(needed), 1 + max(spelt)), -1.0)
        assert np.isfinite(loss_and_occupancy(enough_TV, spelt)[0])
        assert loss_and_occupancy(enough_TV[1:], spelt)[0] == np.inf


def test_the_lengths_of_a_row_follow_from_its_seconds() -> None:
    samples, mel, frames, tokens = (int(row[1]) for row in table("row"))
    assert (samples, mel, frames) == (16 * 16_000, samples // 160, samples // 320)
    assert tokens == len("it is late")


def test_the_best_path_is_collapsed_as_the_document_shows() -> None:
    (shown,) = re.findall(r"```pycon\n(.*?)```", DOCUMENT, re.DOTALL)
    example = doctest.DocTestParser().get_doctest(shown, {}, "best path", None, None)
    assert doctest.DocTestRunner().run(example).failed == 0
    best = next(line for line in example.examples if line.source.startswith("best = "))
    tokens = collapse_ids(ast.literal_eval(best.source.split("#")[0].removeprefix("best = ").strip()), BLANK)
    assert "".join("–ehlo"[token] for token in tokens) == "hello"


def test_the_code_of_the_document_is_the_code_that_is_tested() -> None:
    (shown,) = re.findall(r"```python\n(.*?)\n```", DOCUMENT, re.DOTALL)
    oracle = (ROOT / "tests" / "training" / "ctc_oracle.py").read_text(encoding="utf-8")
    assert shown == oracle.strip()
