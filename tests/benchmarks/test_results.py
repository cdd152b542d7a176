"""Check that benchmarks/results states its origin, is of the packaged model, and is quoted correctly."""

import re
import subprocess
from pathlib import Path

import pytest
from make_results import (
    FIGURES_BEGIN,
    FIGURES_END,
    MODEL,
    MODEL_FILES,
    RESULTS,
    evaluations_of,
    model_digest,
    read,
    readme_figures,
    render,
)

from streamasr.recognition import resolve_model
from streamasr.report.card import measured_block

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "results"
PAGES = sorted(FOLDER.glob("*.md"))
GENERATED = sorted(path.stem for path in FOLDER.glob("*.json"))


def skip_without_history() -> None:
    shallow = subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if shallow.stdout.strip() != "false":
        pytest.skip("no complete git history here; a full clone of the repository has it")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_states_commit_model_machine_date_and_command(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for field in ("commit", "model", "machine", "date"):
        assert re.search(rf"^\| {field} \| \S", text, re.MULTILINE), field
    assert re.search(r"^\| date \| \d{4}-\d\d-\d\d \|$", text, re.MULTILINE)
    assert re.search(r"^```sh\n(python|streamasr) ", text, re.MULTILINE)


@pytest.mark.parametrize("name", GENERATED)
def test_a_page_shows_what_its_figures_file_holds(name: str) -> None:
    assert name in RESULTS
    assert (FOLDER / f"{name}.md").read_text(encoding="utf-8") == render(read(name))


@pytest.mark.parametrize(
    "name", [name for name in GENERATED if RESULTS[name].model and RESULTS[name].weights]
)
def test_figures_are_of_the_packaged_model(name: str) -> None:
    assert read(name)["model"] == f"{MODEL} {model_digest(resolve_model(MODEL))}"


@pytest.mark.parametrize(
    "name", [name for name in GENERATED if RESULTS[name].model and not RESULTS[name].weights]
)
def test_other_figures_are_of_a_model_of_the_same_size(name: str) -> None:
    skip_without_history()
    content = read(name)
    lacks = content.get("lacks", ())
    for file in MODEL_FILES:
        then = subprocess.run(
            ["git", "cat-file", "-s", f"{content['commit']}:models/{MODEL}/{file}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (then.returncode != 0) == (file in lacks), "the page says what its model had not"
        assert file in lacks or int(then.stdout) == (resolve_model(MODEL) / file).stat().st_size, file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_a_commit_of_this_repository(page: Path) -> None:
    skip_without_history()
    row = re.search(r"^\| commit \| (.*) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert row is not None
    commits = re.findall(r"\b[0-9a-f]{7,10}\b", row[1])
    assert commits
    for commit in commits:
        subprocess.run(["git", "merge-base", "--is-ancestor", commit, "HEAD"], cwd=ROOT, check=True)


def test_the_readme_quotes_the_results() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = text[text.index(FIGURES_BEGIN) + len(FIGURES_BEGIN) : text.index(FIGURES_END)].strip("\n")
    assert quoted == readme_figures()


def test_the_model_card_quotes_the_results() -> None:
    folder = resolve_model(MODEL)
    assert measured_block(folder, evaluations_of(read(MODEL))) in (folder / "README.md").read_text(
        encoding="utf-8"
    )
