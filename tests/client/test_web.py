"""Test that the page has no inline code, no missing files and no files from other hosts."""

from __future__ import annotations

import re
from importlib import resources

FOLDER = resources.files("streamasr_client.web")
KINDS = (".html", ".css", ".js", ".svg")
TEXTS = {
    entry.name: entry.read_text(encoding="utf-8") for entry in FOLDER.iterdir() if entry.name.endswith(KINDS)
}


def test_nothing_is_inline_or_from_other_hosts() -> None:
    page = TEXTS["index.html"]
    assert not re.findall(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert linked
    assert set(linked) <= set(TEXTS)
    for name, text in TEXTS.items():
        foreign = re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}", text)
        assert [url for url in foreign if url != "http://www.w3.org"] == [], name


def test_modules_import_only_existing_files() -> None:
    for name, text in TEXTS.items():
        for imported in re.findall(r'(?:from|import|URL\()\s*"\./([^"]+)"', text):
            assert imported in TEXTS, f"{name} imports {imported}"
