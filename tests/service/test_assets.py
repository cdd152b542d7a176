"""Test which files of the captions page are loaded."""

from streamasr.service.assets import CONTENT_TYPES, load_assets


def test_only_files_of_the_page_are_loaded() -> None:
    assets = load_assets()
    assert assets["/"] is assets["/index.html"]
    assert all("." + path.rpartition(".")[2] in CONTENT_TYPES for path in assets if path != "/")
    assert not any(".py" in path for path in assets)


def test_a_missing_page_package_gives_no_assets() -> None:
    assert load_assets("streamasr_client.no_such_package") == {}
