"""The pictures in the texts are what their scripts draw today, and can be read by everybody."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from drawing.__main__ import FOLDER, NAMES, drawn
from simulation.__main__ import replay

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "client"])
def test_a_picture_is_what_its_script_draws(name: str) -> None:
    compare(name)


def test_the_recording_is_what_its_script_records() -> None:
    compare("client")


def compare(name: str) -> None:
    kept = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn(name) == kept, f"run `make pictures NAME={name}`, look at the picture, and commit it"


@pytest.mark.parametrize("path", [FOLDER / f"{name}.svg" for name in NAMES], ids=lambda path: path.stem)
def test_a_picture_has_real_text_is_described_and_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    for part in "title", "desc":
        assert len(root.findtext(f"{SVG}{part}") or "") > 20
    assert root.get("role") == "img" and root.get("aria-labelledby") == "title desc"
    assert "prefers-color-scheme: dark" in text, "it is light on a light page, and dark on a dark one"
    assert len(list(root.iter(f"{SVG}text"))) > 10
    assert len(text) < 60_000 and "<image" not in text and "http" not in text.replace(SVG[1:-1], "")


@pytest.mark.parametrize("seed", range(5))
def test_any_simulated_run_can_be_drawn(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.svg"
    assert replay(seed, str(path)) == 0
    history = capsys.readouterr().out.splitlines()[:-1]
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    times = {line.split()[0] for line in history}
    assert {f"{moment} s" for moment in times} <= {element.text for element in root.iter(f"{SVG}text")}
    happened = [element for element in root.iter() if element.get("marker-end") or element.tag == f"{SVG}circle"]
    assert len(happened) == sum(bool(re.match(r"\s*\S+\s+c\d+: ", line)) for line in history)
