"""Changes of the production code's syntax tree: a handful of verbs, and a way to run the simulation with one of them.

A mutation names a place, "chat.server.member:Member.lose" (a module; and a function in it, or nothing), and what is to
be changed there. What is to be found is given as code, and means the tree: layout, comments and the lines around do not
matter. Where it is not found, or oftener than once, the mutation no longer applies, and says so.
"""

from __future__ import annotations

import ast
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType

    FailureOf = Callable[[int], tuple[str, Any]]
    Verb = Callable[["Place"], None]

ROOT = Path(__file__).parents[2]


class Mutation(NamedTuple):
    name: str
    where: str
    verbs: tuple[Verb, ...]

    @property
    def module(self) -> str:
        return self.where.partition(":")[0]

    def apply(self, source: str) -> ast.Module:
        """The changed tree. Raises LookupError if it does not apply."""
        gc.disable()  # generators that it ended meanwhile would confuse Python 3.11: "recursion depth mismatch"
        tree = ast.parse(source)
        gc.enable()
        try:
            place = Place(tree, self.where.partition(":")[2])
            for verb in self.verbs:
                verb(place)
        except LookupError as error:
            raise LookupError(f"{self.name!r} no longer applies in {self.where}: {error}") from None
        return ast.fix_missing_locations(tree)


def mutation(name: str, where: str, *verbs: Verb) -> Mutation:
    return Mutation(name, where, verbs)


# The verbs.


def drop(what: str, nth: int = 0) -> Verb:
    """Leave out the statement in which `what` stands: the innermost one, with all that is in it."""

    def change(place: Place) -> None:
        body, at = place.statement(what, nth)
        body[at : at + 1] = [] if len(body) > 1 else [ast.Pass()]

    return change


def replace(what: str, by: str, nth: int = 0) -> Verb:
    """Put another expression in the place of `what`; or a statement, in the place of that in which `what` stands."""

    def change(place: Place) -> None:
        if isinstance(parse(by), ast.stmt):
            body, at = place.statement(what, nth)
            body[at] = parse(by)
            return
        found = place.expressions(what)
        parent, field, at = pick(found, nth, what)
        old = getattr(parent, field) if at is None else getattr(parent, field)[at]
        new = parse(by)
        if isinstance(new, (ast.Name, ast.Attribute, ast.Subscript)):
            new.ctx = getattr(old, "ctx", ast.Load())
        if at is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[at] = new

    return change


def take(what: str, value: bool, nth: int = 0) -> Verb:
    """Let the condition in which `what` stands, of an if, a while or an x if y else z, always be `value`."""

    def change(place: Place) -> None:
        tests = [node for node in place.nodes if isinstance(node, (ast.If, ast.While, ast.IfExp))]
        found = [node for node in tests if has(node.test, what)]
        pick(found, nth, f"condition with {what}").test = ast.Constant(value)

    return change


def put(code: str, before: str = "", after: str = "", nth: int = 0) -> Verb:
    """Add statements: before or after the one in which something stands, or at the beginning of the function."""

    def change(place: Place) -> None:
        new = ast.parse(code).body
        if before or after:
            body, at = place.statement(before or after, nth)
            at += bool(after)
        else:
            body = place.root.body
            at = int(isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant))
        body[at:at] = new

    return change


def swap(what: str, other: str) -> Verb:
    """Exchange the statement in which `what` stands with that in which `other` stands."""

    def change(place: Place) -> None:
        (body, at), (its_body, its_at) = place.statement(what, 0), place.statement(other, 0)
        body[at], its_body[its_at] = its_body[its_at], body[at]

    return change


# How things are found.


class Place:
    """A function or a constant in a module's tree, or all of it."""

    def __init__(self, tree: ast.Module, path: str) -> None:
        self.root: Any = tree
        for name in path.split(".") if path else ():
            found = [node for node in self.root.body if name in names(node)]
            if not found:
                raise LookupError(f"there is no {path}")
            self.root = found[0]

    @property
    def nodes(self) -> list[Any]:
        """All that is in it, in the order of the source."""
        found: list[Any] = [node for node in ast.walk(self.root) if node is not self.root and hasattr(node, "lineno")]
        return [self.root, *sorted(found, key=lambda node: (node.lineno, node.col_offset))]

    def statement(self, what: str, nth: int) -> tuple[list[Any], int]:
        """The block in which the innermost statement with `what` stands, and where in it."""
        found: list[tuple[Any, int]] = []
        for node in self.nodes:
            for field in "body", "orelse", "finalbody":
                block = getattr(node, field, None)
                for at, child in enumerate(block if isinstance(block, list) else ()):
                    inner = [one for one in ast.walk(child) if isinstance(one, ast.stmt) and one is not child]
                    if has(child, what) and not any(has(one, what) for one in inner):
                        found.append((block, at))
        found.sort(key=lambda place: (place[0][place[1]].lineno, place[0][place[1]].col_offset))
        place: tuple[list[Any], int] = pick(found, nth, f"statement with {what}")
        return place

    def expressions(self, what: str) -> list[tuple[Any, str, int | None]]:
        wanted = show(parse(what))
        found: list[tuple[Any, str, int | None]] = []
        for node in self.nodes:
            for field, value in ast.iter_fields(node):
                if isinstance(value, ast.expr) and show(value) == wanted:
                    found.append((node, field, None))
                elif isinstance(value, list):
                    found += [(node, field, at) for at, one in enumerate(value)
                              if isinstance(one, ast.expr) and show(one) == wanted]  # fmt: skip
        return found


def parse(code: str) -> Any:
    """The expression or the statement that this is."""
    statement = ast.parse(code).body[0]
    return statement.value if isinstance(statement, ast.Expr) else statement


def show(node: ast.AST) -> str:
    """A tree as text, without the difference between what is read and what is assigned."""
    return ast.dump(node).replace("ctx=Store()", "ctx=Load()").replace("ctx=Del()", "ctx=Load()")


def names(node: Any) -> list[str]:
    """What a statement of a module or class gives a name."""
    targets = [*getattr(node, "targets", ()), getattr(node, "target", None)]
    return [getattr(node, "name", ""), *(target.id for target in targets if isinstance(target, ast.Name))]


def has(node: ast.AST, what: str) -> bool:
    wanted = parse(what)
    return any(type(one) is type(wanted) and show(one) == show(wanted) for one in ast.walk(node))


def pick(found: list[Any], nth: int, what: str) -> Any:
    if not found:
        raise LookupError(f"there is no {what}")
    if nth > len(found) or (not nth and len(found) > 1):
        raise LookupError(f"there are {len(found)} of {what}; say which: nth=1 to {len(found)}")
    return found[nth - 1 if nth else 0]


# How they are run.


OURS = {"loop": ROOT, "chat": ROOT, "simulation": ROOT / "tests"}  # what is imported anew, and where it is


@cache
def compiled(path: str) -> CodeType:
    return compile(Path(path).read_text(), path, "exec")


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module, perhaps from a changed tree."""

    def __init__(self, name: str, path: str, mutation: Mutation) -> None:
        super().__init__(name, path)
        self.mutation = mutation

    def get_code(self, fullname: str) -> CodeType:
        if fullname != self.mutation.module:
            return compiled(self.path)  # once for all mutations
        return compile(self.mutation.apply(Path(self.path).read_text()), self.path, "exec")


class Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutation: Mutation) -> None:
        self.mutation = mutation

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        if top not in OURS:
            return None
        place = OURS[top].joinpath(*name.split("."))
        source = str(place / "__init__.py" if place.is_dir() else place.with_suffix(".py"))
        return importlib.util.spec_from_file_location(name, source, loader=Loader(name, source, self.mutation))


HANGS = 1.0  # seconds of the processor's time after which a broken server is taken to hang; a cluster takes twice that


@contextmanager
def broken(mutation: Mutation) -> Iterator[FailureOf]:
    """The simulation of a server with this mutation in it: its failure_of.

    All is imported anew with the change in it, beside the modules that are loaded already; those are put back.
    """
    ours = [name for name in sys.modules if name.partition(".")[0] in OURS]
    whole = {name: sys.modules.pop(name) for name in ours}
    finder = Finder(mutation)
    sys.meta_path.insert(0, finder)
    try:
        clustered = mutation.module.startswith("chat.server.cluster.")
        run = importlib.import_module("simulation.run")
        vars(run)["PATIENCE"] = HANGS * (1 + clustered)
        yield partial(run.failure_of, cluster=clustered)
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        sys.modules.update(whole)


def caught(mutation: Mutation, seeds: Iterable[int]) -> tuple[int, str]:
    """The first of these seeds that notices the mutation, and what the oracle says; -1 if none does."""
    with broken(mutation) as failure_of:
        for seed in seeds:
            failure, _ = failure_of(seed)
            if failure:
                return seed, failure
    return -1, "was not noticed"
