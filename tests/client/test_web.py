"""The page needs nothing inline, nothing missing and nothing from elsewhere."""

from __future__ import annotations

import re
from importlib import resources

FOLDER = resources.files("streamasr_client.web")
KINDS = (".html", ".css", ".js", ".svg")
TEXTS = {
    entry.name: entry.read_text(encoding="utf-8") for entry in FOLDER.iterdir() if entry.name.endswith(KINDS)
}


def test_nothing_is_inline_or_from_elsewhere() -> None:
    page = TEXTS["index.html"]
    assert not re.findall(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert linked
    assert set(linked) <= set(TEXTS)
    for name, text in TEXTS.items():
        foreign = re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}", text)
        assert [url for url in foreign if url != "http://www.w3.org"] == [], name


def test_every_module_imports_its_own_files_only() -> None:
    for name, text in TEXTS.items():
        for imported in re.findall(r'(?:from|import|URL\()\s*"\./([^"]+)"', text):
            assert imported in TEXTS, f"{name} imports {imported}"
