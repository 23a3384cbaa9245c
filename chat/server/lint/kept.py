"""Lists and dicts in which a handler keeps members: they are empty at first, and get nothing but members.

If one is handed on to a function or has a second name, other things may be put into it there. So it does not count.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from .source import VALUE, Source, pairs

if TYPE_CHECKING:
    from .meaning import Meanings

LOOKS = (ast.Subscript, ast.For, ast.comprehension, ast.Compare, ast.If, ast.While, ast.UnaryOp)
ADDING = ("append", "add")
LOOKING = ("len", "list", "set", "tuple", "sorted", "reversed", "enumerate", "any", "all", "bool", "print")
TAKING = ("get", "pop", "popleft")  # methods that return one of what is kept
HARMLESS = (*ADDING, *TAKING, "values", "items", "keys", "remove", "discard", "clear", "index", "count")


class Kept:
    """What the source puts into lists and dicts. Each of them has a place: (scope, name), or (owner, attribute)."""

    def __init__(self, source: Source, meanings: Meanings) -> None:
        self.source = source
        self.meanings = meanings
        self.put: dict[tuple[Any, str], set[ast.expr]] = defaultdict(set)
        self.by_key: set[tuple[Any, str]] = set()  # the places of dicts

    def learn(self) -> int:
        """Find all that is put into lists and dicts. Returns how much was found."""
        for node, _ in self.source.all(ast.Assign):
            for target, value in pairs(node):
                if isinstance(target, ast.Subscript) and (place := self.place(target.value)):
                    self.put[place].add(value)
                    self.by_key.add(place)
        for call, _ in self.source.all(ast.Call):
            adds = isinstance(call.func, ast.Attribute) and call.func.attr in ADDING and len(call.args) == 1
            if adds and (place := self.place(call.func.value)):
                self.put[place].add(call.args[0])
        return sum(map(len, self.put.values()))

    def place(self, node: ast.expr) -> tuple[Any, str] | None:
        if isinstance(node, ast.Name):
            home = self.source.scopes[node].find(node.id)
            return (home, node.id) if home else None
        owner = getattr(self.meanings.of(node.value), "type", None) if isinstance(node, ast.Attribute) else None
        return (owner, node.attr) if owner and isinstance(node, ast.Attribute) else None

    def has(self, node: ast.expr, what: object) -> tuple[bool, bool]:
        """Two answers: whether `node` names a list or dict that keeps only `what`, and whether that is a dict."""
        place = self.place(node)
        if place not in self.put or {self.meanings.of(value) for value in self.put[place]} != {what}:
            return False, False
        if isinstance(node, ast.Name):
            first = [value if how == VALUE else None for how, value in place[0].names[node.id]]
        else:
            first = list(self.meanings.attributes.get(place, ()))
        certain = bool(first) and all(map(is_empty, first)) and not self.is_handed_on(type(node), place)
        return certain, certain and place in self.by_key

    def is_handed_on(self, kind: type[ast.expr], place: tuple[Any, str]) -> bool:
        for node, _ in self.source.all(kind):
            parent = self.source.parents[node]
            seen = isinstance(parent, LOOKS) or getattr(parent, "attr", "") in HARMLESS
            seen = seen or (isinstance(parent, ast.Call) and getattr(parent.func, "id", "") in LOOKING)
            if not seen and isinstance(node.ctx, ast.Load) and self.place(node) == place:
                return True
        return False


def is_empty(node: ast.AST | None) -> bool:
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", "") in ("list", "dict", "set", "deque") and not node.args
    return isinstance(node, (ast.List, ast.Dict)) and not getattr(node, "elts", getattr(node, "keys", ()))
