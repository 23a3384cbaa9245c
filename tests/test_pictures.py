"""The pictures in the texts are what their scripts draw today, and can be read by everybody."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from drawing.__main__ import FOLDER, NAMES, drawn

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_what_its_script_draws(name: str) -> None:
    kept = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn(name) == kept, f"run `make pictures NAME={name}`, look at the picture, and commit it"


@pytest.mark.parametrize("path", [FOLDER / f"{name}.svg" for name in NAMES], ids=lambda path: path.stem)
def test_a_picture_has_real_text_is_described_and_small(path: object) -> None:
    text = path.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    root = ElementTree.fromstring(text)
    for part in "title", "desc":
        assert len(root.findtext(f"{SVG}{part}") or "") > 20
    assert root.get("role") == "img" and root.get("aria-labelledby") == "title desc"
    assert "prefers-color-scheme: dark" in text, "it is light on a light page, and dark on a dark one"
    assert len(list(root.iter(f"{SVG}text"))) > 10
    assert len(text) < 60_000 and "<image" not in text and "http" not in text.replace(SVG[1:-1], "")
