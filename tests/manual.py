"""Writes man pages and a completion for bash, from the parsers of the flags, into a folder laid out like /usr/local.

`make man` calls it, and so does the build of a wheel: pip and pipx put what is in share/ where `man` and bash look.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import chat.client.main
import chat.server.flags
from chat.options import VERSION

if TYPE_CHECKING:
    from argparse import Action, ArgumentParser
    from collections.abc import Iterator

FILES = ("FILE[,SECONDS]", "WHERE:FUNCTION")  # flags that take one of these complete the names of files


def parsers() -> list[ArgumentParser]:
    return [chat.server.flags.make_parser(), chat.client.main.make_parser()]


def man_page(parser: ArgumentParser) -> str:
    """The page in section 1, for man(7)'s macros."""
    name, says = parser.prog, quoted(parser.description or "")
    lines = [f'.TH {name.upper()} 1 "" "chatsrv {VERSION}" "User Commands"']
    lines += [".SH NAME", rf"{name} \- {says[0].lower()}{re.split('[.:]', says[1:])[0]}"]
    lines += [".SH SYNOPSIS", rf".B {name}", quoted(parser.format_usage().partition(name)[2])]
    lines += [".SH DESCRIPTION", says, ".SH OPTIONS"]
    for action in parser._actions:
        lines += [".TP", ", ".join(spellings(action)), quoted(parser._get_formatter()._expand_help(action))]
    if parser.epilog:
        lines += [".SH NOTES", quoted(parser.epilog)]
    others = [rf"\fB{other.prog}\fP(1)" for other in parsers() if other.prog != name]
    return "\n".join([*lines, ".SH SEE ALSO", *others, ""])


def spellings(action: Action) -> Iterator[str]:
    value = "" if action.nargs == 0 else rf"\fI{quoted(str(action.metavar))}\fP"
    if not action.option_strings:
        yield value
    for flag in action.option_strings:
        yield rf"\fB{quoted(flag)}\fP {value}".rstrip()


def quoted(text: str) -> str:
    """One line of plain text for troff: a hyphen stays what one can type, and no line begins a request."""
    text = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + text if text[:1] in (".", "'") else text


def completion(parser: ArgumentParser) -> str:
    """A function for bash that completes flags, and files where a flag takes one."""
    flags = [action for action in parser._actions if action.option_strings]
    every = " ".join(sorted(flag for action in flags for flag in action.option_strings if flag.startswith("--")))
    files = [flag for action in flags if action.metavar in FILES for flag in action.option_strings]
    values = [
        flag for action in flags if action.nargs != 0 and action.metavar not in FILES for flag in action.option_strings
    ]
    hosts = any(action.metavar == "HOST" for action in parser._actions)
    cases = [f"        {'|'.join(files)}) compopt -o default ;;"] if files else []
    cases += [f"        {'|'.join(values)}) ;;"] if values else []
    return f"""\
# bash completion for {parser.prog}
_{parser.prog}() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
    COMPREPLY=()
    case $before in
{chr(10).join(cases)}
        *) COMPREPLY=($(compgen {"-A hostname " if hosts else ""}-W "{every}" -- "$current")) ;;
    esac
}}
complete -F _{parser.prog} {parser.prog}
"""


def write(folder: Path) -> None:
    """Write all of it below `folder`."""
    for parser in parsers():
        for place, text in (
            (f"share/man/man1/{parser.prog}.1", man_page(parser)),
            (f"share/bash-completion/completions/{parser.prog}", completion(parser)),
        ):
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


class ManualHook(BuildHookInterface[Any]):
    """Called by hatchling when it builds a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        folder = Path(self.temporary.name)
        write(folder)
        for path in folder.rglob("*"):
            if path.is_file():
                build_data["shared_data"][str(path)] = str(path.relative_to(folder))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self.temporary.cleanup()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
