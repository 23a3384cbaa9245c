"""The project as others get it: installed from a wheel, or as one file; and what comes with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from browsers import with_web
from chatting import PATIENCE, ROOT, Start
from more import every, only_with_more
from terminals import Pty

from chat.options import VERSION

if missing := [name for name in ("hatchling", "build") if find_spec(name) is None]:
    pytest.skip(f"not installed: {', '.join(missing)}; nothing can be built", allow_module_level=True)

pytestmark = pytest.mark.more  # what is built and installed takes its time, and changes rarely

PROGRAMS = ("chatsrv", "chatclient")
HANDLER = """\
from chat.handlers.nick import nick
from loop import sleep


def handle(member, room):
    yield from sleep(0)
    member.tell("Welcome to a handler of one's own")
    yield from nick(member, room)
"""


def run(*command: str | Path, folder: Path | None = None, **environment: str) -> str:
    """What a command prints; it must end well, and say nothing of trouble."""
    words = list(map(str, command))
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=PATIENCE * 10
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


# Built.


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return dist / f"chatsrv-{VERSION}-py3-none-any.whl"


def sources() -> set[str]:
    files = [path for name in ("loop", "chat") for path in (ROOT / name).rglob("*.*")]
    return {str(path.relative_to(ROOT)) for path in files if path.suffix in (".py", ".md")}


def test_a_wheel_holds_one_package_and_what_man_and_bash_read(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names >= {f"chatsrv/{name}" for name in sources()}
    others = names - {f"chatsrv/{name}" for name in sources()}
    shared = [
        f"share/{place}" for name in PROGRAMS for place in (f"man/man1/{name}.1", f"bash-completion/completions/{name}")
    ]
    assert others == {
        *(f"chatsrv/{name}" for name in ("__init__.py", "__main__.py", "chatclient.py", "py.typed", "chat/py.typed")),
        "chatsrv/chat/server/web/page.html",
        *(f"chatsrv-{VERSION}.data/data/{name}" for name in shared),
    }


def test_a_wheel_tells_what_else_can_be_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"chatsrv-{VERSION}.dist-info/METADATA").decode()
    needs = re.findall(r"^Requires-Dist: (\w+).*; extra == '(\w+)'$", metadata, re.MULTILINE)
    assert sorted(needs) == [("hiredis", "all"), ("hiredis", "cluster"), ("websockets", "all"), ("websockets", "web")]
    assert len(needs) == metadata.count("Requires-Dist"), "without an extra nothing else is needed"


def test_an_sdist_holds_the_project(dist: Path) -> None:
    with tarfile.open(dist / f"chatsrv-{VERSION}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tests = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    assert names >= sources() | tests | {
        *PROGRAMS,
        "test.py",
        "Makefile",
        "README.md",
        "NOTES.md",
        "tests/solutions.md",
        ".ci/run",
    }
    assert not [name for name in names if ".venv" in name or name.endswith(".pyc")]


# Installed.


class Environment:
    """A virtual environment with the wheel in it, and with others' packages that are called like ours."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder)
        self.folder = folder
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        self.packages = Path(run(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        for name in "chat", "loop":
            (self.packages / name).mkdir()
            (self.packages / name / "__init__.py").write_text("somebody = 'else'")
        self.before = self.files()
        self.pip("install", "--no-index", wheel)

    def files(self) -> set[Path]:
        return {path for path in self.folder.rglob("*") if path.is_file() and path.parent.parent != self.packages}

    def pip(self, *words: str | Path) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, *words, "--disable-pip-version-check")


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module")
def zipapps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zipapps")
    run("make", "zipapp", f"PYTHON={sys.executable}", f"TO={folder}", folder=ROOT)
    return folder


@pytest.fixture(params=["pip", "zipapp"])
def programs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The commands, got in one of these ways; the working directory is somewhere else."""
    if request.param == "pip":
        folder, end = request.getfixturevalue("environment").bin, ""
    else:
        folder, end = request.getfixturevalue("zipapps"), ".pyz"
    (tmp_path / "mine.py").write_text(HANDLER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        yield {name: f"{folder}/{name}{end}" for name in PROGRAMS}


def test_installed_beside_others_packages_of_these_names(environment: Environment) -> None:
    assert {path.name for path in environment.packages.iterdir()} >= {"chatsrv", f"chatsrv-{VERSION}.dist-info"}
    print_it = "import chat, loop; print(chat.somebody, loop.somebody)"
    assert run(environment.python, "-c", print_it, folder=environment.bin) == "else else\n"
    assert run(environment.python, "-c", f"import chatsrv; {print_it}", folder=environment.bin) == "else else\n"
    assert run(environment.python, "-m", "chatsrv", "--version", folder=environment.bin) == f"chatsrv {VERSION}\n"


def test_the_version_is_the_same_everywhere(programs: dict[str, str], environment: Environment) -> None:
    for name in PROGRAMS:
        assert run(programs[name], "--version") == f"{name} {VERSION}\n"
    asked = "from importlib.metadata import version; print(version('chatsrv'))"
    assert run(environment.python, "-c", asked) == f"{VERSION}\n"
    assert VERSION not in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("handler", ["mine.py:handle", "mine:handle", only_with_more("chat.handlers.nick:nick")])
def test_handlers_find_what_they_import(chatsrv: Start, programs: dict[str, str], handler: str) -> None:
    server = chatsrv("--handler", handler, program=[programs["chatsrv"]])
    client = server.client()
    client.say("/nick ann")
    client.wait_for(b"ann")
    done = subprocess.run(
        [programs["chatclient"], "127.0.0.1", str(server.port)], input=b"hi\n", capture_output=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, b"") and b"hi\n" in done.stdout
    assert b"hi" in client.wait_for(b"hi")


def test_it_brings_its_page_along(chatsrv: Start, programs: dict[str, str]) -> None:
    websockets = pytest.importorskip("websockets", reason="websockets is not installed")
    found = {**os.environ, "PYTHONPATH": str(Path(websockets.__file__).parent.parent)}
    server, port = with_web(chatsrv, program=[programs["chatsrv"]], env=found)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
        assert answer.read() == (ROOT / "chat/server/web/page.html").read_bytes()
    server.finish()


@pytest.mark.parametrize("programs", every(2, ["pip", "zipapp"]), indirect=True)
def test_test_py_takes_it_for_the_server(programs: dict[str, str]) -> None:
    run(sys.executable, ROOT / "test.py", "Test5", "Test14", CHATSRV=programs["chatsrv"])


def test_one_file_runs_under_any_name(chatsrv: Start, zipapps: Path, tmp_path: Path) -> None:
    shutil.copy(zipapps / "chatsrv.pyz", tmp_path / "server")
    (tmp_path / "link").symlink_to("server")
    for name in "server", "link":
        chatsrv(program=[str(tmp_path / name)]).client()


def test_uninstalled_nothing_is_left(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path, wheel)
    for name in PROGRAMS:
        run(environment.bin / name, "--version")
    environment.pip("uninstall", "--yes", "chatsrv")
    assert environment.files() == environment.before
    assert not (environment.packages / "chatsrv").exists()


# What comes with it.


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    run(sys.executable, ROOT / "tests" / "manual.py", folder)
    return folder / "share"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("program", PROGRAMS)
def test_man_pages_show_all_that_help_shows(manual: Path, program: str) -> None:
    page = manual / "man" / "man1" / f"{program}.1"
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=1000n", page],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    shown = " ".join(done.stdout.split())
    helped = run(sys.executable, ROOT / program, "--help", COLUMNS="1000")
    for line in helped.partition("\n\n")[2].splitlines():
        assert " ".join(line.split()) in shown or line.endswith(":"), line


def test_bash_completes(manual: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    with Pty(["bash", "--norc", "--noprofile", "-i"], columns=200) as shell:
        shell.press(f"cd {tmp_path}; . {manual}/bash-completion/completions/chatsrv\n")
        shell.press(f". {manual}/bash-completion/completions/chatclient; PS1=; echo go$((1))\n")
        seen = shell.wait_for("go1\r\n")
        for typed, completed in (
            ("chatsrv --max-c\t", "chatsrv --max-clients "),
            ("chatsrv --quiet --no\t", "chatsrv --quiet --no-prefix "),
            ("chatsrv --handler mi\t", "chatsrv --handler mine.py "),
            ("chatclient --re\t", "chatclient --reconnect "),
        ):
            shell.press(typed)
            seen = shell.wait_for(completed, seen)
            shell.press("\x15")


def test_the_workflow_is_one_and_checks_every_python_that_is_promised() -> None:
    workflow = ROOT / ".github" / "workflows" / "check.yml"
    run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", workflow)
    text = workflow.read_text()
    assert "- run: make check PYTHON=python\n" in text and "macos-latest" in text and "pypy" in text
    (oldest,) = re.findall(r'requires-python = ">=3.(\d+)"', (ROOT / "pyproject.toml").read_text())
    (pythons,) = re.findall(r"python: (\[.*\])", text)
    assert json.loads(pythons) == [f"3.{minor}" for minor in range(int(oldest), 15)]
