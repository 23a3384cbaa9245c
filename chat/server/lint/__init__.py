"""Finds mistakes in a handler's source that Python does not report, before the server listens.

The classic one is to call a coroutine without `yield from`: it does not run. Another is to catch what ends a handler,
and go on. The worst is to overwrite an attribute of the server's own. That could harm all members, so such a handler
must not run.

A call without `yield from` is reported only if it is certainly a mistake. Such a call returns a generator. Looping over
it, asking whether it is true or sending it to a member is always wrong. Keeping it, returning it or handing it on can
be right.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from itertools import chain
from types import FunctionType, ModuleType

from .meaning import MEMBER, NOT_RUN, ROOM, Meanings, is_coroutine, is_spawn
from .source import Scope, Source

TAKEN = {owner: set(dir(owner.type)) - {"prefix"} for owner in (MEMBER, ROOM)}  # attributes that handlers must not set
CONSUMERS = (
    all, any, bool, bytes, dict, enumerate, filter, float, int, iter, len, list, map, max, min, print, reversed, set,
    sorted, str, sum, tuple, zip,
)  # fmt: skip
GENERATORS_OWN = {"send", "throw", "close", "gi_frame", "gi_code", "gi_running", "gi_yieldfrom", "__next__"}
WASTE = (
    ast.Expr, ast.For, ast.comprehension, ast.While, ast.If, ast.Assert, ast.Await, ast.UnaryOp, ast.BinOp, ast.Compare,
    ast.AugAssign, ast.FormattedValue, ast.Starred, ast.withitem, ast.Raise, getattr(ast, "Match", ast.Expr),
)  # fmt: skip
TRIES = (ast.Try, getattr(ast, "TryStar", ast.Try))
LEAVING = (ast.Raise, ast.Return, ast.Break)
SEVERAL = (ast.List, ast.Tuple, ast.Set, ast.ListComp, ast.SetComp, ast.GeneratorExp)


def mistakes(module: ModuleType, handler: str) -> tuple[list[str], list[str]]:
    """What is certainly wrong with a module whose function `handler` is the handler, each as "FILE:LINE: what".

    Returns two lists: the mistakes because of which the handler must not run, and the mistakes that are only reported.
    """
    try:
        source = Source(module)
        meanings = Meanings(source, {handler: (MEMBER, ROOM), "start": (ROOM,)})
        reported = chain(not_run(source, meanings), not_ended(source, meanings))
        return listed(overwritten(source, meanings)), listed(reported)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return [], []  # no source, or not readable, or nested too deep for our recursion


def listed(found: Iterable[tuple[str, int, str]]) -> list[str]:
    return [f"{file}:{line}: {what}" for file, line, what in sorted(set(found))]


def not_run(source: Source, meanings: Meanings) -> Iterator[tuple[str, int, str]]:
    """Yields file, line and complaint for each call of a coroutine that does not run it."""
    for node, scope in source.all(ast.Call):
        if meanings.of(node) == NOT_RUN and Use(source, meanings).is_wasted(node):
            what = f"{shown(node.func)}() does not run without `yield from` in front of it"
            yield str(scope.module.__file__), node.lineno, what
    for node, scope in source.all(ast.YieldFrom):
        meaning = meanings.of(node.value)
        if is_coroutine(meaning) or getattr(meaning, "scope", meaning) in meanings.coroutines:
            what = f"`yield from {shown(node.value)}` lacks the parentheses of a call"
            yield str(scope.module.__file__), node.lineno, what


def not_ended(source: Source, meanings: Meanings) -> Iterator[tuple[str, int, str]]:
    """Yields file, line and complaint for each place where a handler goes on although it is ended."""
    for node, scope in source.all(ast.YieldFrom):
        child: ast.AST = node
        catching = 0  # the line of the innermost `except` around it that would catch Cancelled, and go on
        while scope in meanings.driven and child is not scope.node:
            inner, child = child, source.parents[child]
            if isinstance(child, TRIES):
                if inner in child.finalbody:
                    what = "a `yield from` in `finally` waits when the handler is to end: make plain calls there"
                    yield str(scope.module.__file__), node.lineno, what
                elif inner in child.body:
                    catching = catching or line_that_keeps_on(child)
            elif catching and isinstance(child, ast.While) and isinstance(child.test, ast.Constant):
                what = "this catches what ends the handler, too, and goes on: let it be `except Exception`"
                yield str(scope.module.__file__), catching, what


def line_that_keeps_on(node: ast.Try) -> int:
    """The line of the first `except` that catches Cancelled, if the handler certainly goes on after it; or 0."""
    for handler in node.handlers:
        caught = ast.unparse(handler.type) if handler.type else "BaseException"
        if "Cancelled" in caught or "BaseException" in caught:
            leaves = any(isinstance(inner, LEAVING) for part in (handler, *node.finalbody) for inner in ast.walk(part))
            return 0 if leaves else handler.lineno
    return 0


def overwritten(source: Source, meanings: Meanings) -> Iterator[tuple[str, int, str]]:
    """Yields file, line and complaint for each place where an attribute of the server's own is set or deleted."""
    for node, scope in [*source.all(ast.Attribute), *source.all(ast.Call)]:
        owner = name = None
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            owner, name = node.value, node.attr
        elif isinstance(node, ast.Call) and meanings.of(node.func) in (setattr, delattr) and len(node.args) > 1:
            owner, name = node.args[0], getattr(node.args[1], "value", None)
        if owner and name in TAKEN.get(meanings.of(owner), ()):
            what = f"{shown(owner)}.{name} belongs to the server; rename your attribute"
            yield str(scope.module.__file__), node.lineno, what


def shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) < 40 else f"...{text[-36:]}"


class Use:
    """What becomes of a generator that a call has returned: whether it can still be run, or is wasted."""

    def __init__(self, source: Source, meanings: Meanings) -> None:
        self.source = source
        self.meanings = meanings
        self.followed: set[tuple[Scope, str]] = set()  # names whose uses are being looked at, each with its scope

    def is_wasted(self, node: ast.AST) -> bool:
        """Whether the generator that this expression returns is certainly not run.

        The comments show the expression as `nap()`.
        """
        parent = self.source.parents[node]
        scope = self.source.scopes[node]
        if isinstance(parent, ast.Yield):  # yield nap(): the kernel takes no generators
            return scope in self.meanings.driven
        if isinstance(parent, ast.Return):  # return nap(): the server looks at nothing that a handler returns
            return scope in self.meanings.roles
        if isinstance(parent, ast.BoolOp) or (isinstance(parent, ast.IfExp) and parent.test is not node):  # nap() or x
            return self.is_wasted(parent)
        if isinstance(parent, ast.NamedExpr):  # (x := nap())
            return self.is_wasted(parent) and self.is_name_wasted(parent.target.id, scope)
        if isinstance(parent, (ast.Assign, ast.AnnAssign)):  # x = nap()
            targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
            return all(self.is_target_wasted(target, scope) for target in targets)
        if isinstance(parent, SEVERAL):  # yield from [nap()]
            return isinstance(self.source.parents[parent], ast.YieldFrom)
        if isinstance(parent, ast.Attribute):  # nap().x
            return parent.attr not in GENERATORS_OWN
        if isinstance(parent, ast.keyword):  # f(x=nap())
            call = self.source.parents[parent]
            return isinstance(call, ast.Call) and self.is_argument_wasted(call, node, parent.arg)
        if isinstance(parent, ast.Call):  # f(nap())
            return self.is_argument_wasted(parent, node)
        return isinstance(parent, (*WASTE, ast.IfExp)) or (isinstance(parent, ast.Subscript) and parent.value is node)

    def is_target_wasted(self, target: ast.expr, scope: Scope) -> bool:
        """Whether a generator is wasted if this target gets it: `a, b = nap()` wastes it, `a.x = nap()` perhaps not."""
        if isinstance(target, ast.Name):
            return self.is_name_wasted(target.id, scope)
        return isinstance(target, (ast.Tuple, ast.List))

    def is_name_wasted(self, name: str, scope: Scope) -> bool:
        """Whether a generator is wasted if it is bound to this name: all uses of the name in its scope waste it."""
        home = scope.find(name)
        if home is None or home.parent is None or home.is_class:
            return False  # a name of a module or class, which other modules may use
        if (home, name) in self.followed:
            return True
        self.followed.add((home, name))
        uses = [node for node, where in self.source.all(ast.Name) if node.id == name and where.find(name) is home]
        return all(self.is_wasted(node) for node in uses if isinstance(node.ctx, ast.Load))

    def is_argument_wasted(self, call: ast.Call, node: ast.AST, keyword: str | None = None) -> bool:
        """Whether a call wastes `node`, which is one of its arguments; `keyword` is None for a positional one."""
        meaning = self.meanings.of(call.func)
        if is_spawn(call) or node is call.func:
            return False
        if meaning in CONSUMERS or (isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Constant)):
            return True
        if isinstance(meaning, FunctionType):
            return meaning.__qualname__.startswith(("Member.", "Room."))
        function, arguments = self.meanings.called(call)
        if function is None:
            return False
        if node in arguments[: len(function.parameters)]:
            keyword = function.parameters[arguments.index(node)]
        return keyword in function.names and self.is_name_wasted(str(keyword), function)
