"""The page's list of files, and that it needs nothing from elsewhere."""

from __future__ import annotations

import re
from importlib import resources

from streamasr_client.web import ASSETS, INDEX

FOLDER = resources.files("streamasr_client.web")
TEXTS = {name: FOLDER.joinpath(name).read_text(encoding="utf-8") for name, _ in ASSETS}


def test_the_list_is_what_is_there() -> None:
    there = {entry.name for entry in FOLDER.iterdir() if entry.is_file() and not entry.name.endswith(".py")}
    assert set(TEXTS) == there


def test_nothing_is_inline_or_from_elsewhere() -> None:
    page = TEXTS[INDEX]
    assert not re.findall(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert linked
    assert {link.removeprefix("assets/") for link in linked} <= set(TEXTS)
    for name, text in TEXTS.items():
        foreign = re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}", text)
        assert [url for url in foreign if url != "http://www.w3.org"] == [], name


def test_every_module_imports_listed_files_only() -> None:
    for name, text in TEXTS.items():
        for imported in re.findall(r'(?:from|import|URL\()\s*"\./([^"]+)"', text):
            assert imported in TEXTS, f"{name} imports {imported}"
