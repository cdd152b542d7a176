"""Test how transcripts get the capitals and marks of the printed text."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cased_references import read_book, restore

from streamasr.punctuation.labels import Labeller

Restore = Callable[[str], tuple[str, str] | None]

PAGE = """<html><head><title>No text</title></head><body>
<h2>XII</h2><h3>THE HOUSE OF MR. GREY</h3>
<p>It was a well-known colour,&#8212;the
 <i>grey</i> of the sea&#8209;side. &#8220;Mr. O&#8217;Hara,&#8221; she said, &#8220;will you come to-day?&#8221;</p>
<p>He gave her 2,000 pounds; then he left.</p></body></html>"""


@pytest.fixture
def restored(tmp_path: Path) -> Restore:
    """Restores one transcript from the page."""
    folder = tmp_path / "A Book, Somebody"
    folder.mkdir()
    (folder / "chapter.xhtml").write_text(PAGE, encoding="utf-8")
    book = read_book(folder)

    def restore_one(text: str) -> tuple[str, str] | None:
        return restore(text, [book], Labeller("en"))

    return restore_one


@pytest.mark.parametrize(
    ("bare", "cased"),
    [
        ("it was a well known colour the grey of the", "It was a well-known colour,—the grey of the"),
        ("mister o'hara she said will you come to day", "Mr. O'Hara,” she said, “will you come to-day?”"),
        ("of the sea side mister o'hara", "of the sea‑side. “Mr. O'Hara,”"),
        ("come today he gave her", "come today?” He gave her"),
        ("it was a well known color the grey of the", "It was a well-known color,—the grey of the"),
        ("he gave her two thousand pounds then he left", "He gave her 2,000 pounds; then he left."),
        (
            "chapter twelve the house of mister grey it was a",
            "Chapter Twelve — The House of Mr. Grey — It was a",
        ),
    ],
)
def test_a_passage_is_written_as_in_the_book(restored: Restore, bare: str, cased: str) -> None:
    assert restored(bare) == (cased, "A Book, Somebody")


@pytest.mark.parametrize(
    "bare",
    [
        "it was a well known place",
        "it was a well known sound the grey of the",
        "he gave her two hundred pounds then he left",
    ],
)
def test_other_words_are_not_found(restored: Restore, bare: str) -> None:
    assert restored(bare) is None
