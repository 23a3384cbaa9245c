"""What expressions in a handler's source stand for, as far as the source alone makes that certain.

The meaning of an expression is one of these; that of any other is None.

    a Scope             a module, class or function of the source
    Instance(class)     an instance of a class of the source, loop or chat
    Method(scope)       a method of such an instance
    any other object    itself: a module, class or function of loop, chat or builtins
    MEMBERS             several members
    BY_KEY              a dict whose values are members
    NOT_RUN             what the call of a coroutine returns: nothing in it has run yet
    NOTHING             None

Nothing is guessed: a name that is bound to two different things has no meaning. The meaning of a parameter is learned
from the calls of its function, that of an attribute from its assignments. As each new meaning may give others, we look
at everything again until there is nothing more to learn.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from ..member import Member
from ..room import Room
from .kept import TAKING, Kept
from .source import DEFINITION, IMPORT, ITEM, PARAMETER, UNCERTAIN, VALUE, Scope, Source, pairs

Meaning = Any


class Instance(NamedTuple):
    type: Any  # a class, or the Scope of one


class Method(NamedTuple):
    scope: Scope


MEMBERS, BY_KEY, NOT_RUN, NOTHING = "members", "members by keys", "not run", "nothing"
MEMBER, ROOM = Instance(Member), Instance(Room)
STILL_MEMBERS = (list, tuple, set, sorted, reversed, iter)  # called with MEMBERS, each of these returns MEMBERS


class Meanings:
    """The meanings in a source. `roles`: functions that the server calls, and what it passes to each of them."""

    def __init__(self, source: Source, roles: Mapping[str, Sequence[Meaning]]) -> None:
        self.source = source
        self.coroutines: set[Scope] = set()  # functions that ask the kernel for something
        self.driven: set[Scope] = set()  # functions that a task runs, so that the kernel gets what they yield
        self.attributes: dict[tuple[Any, str], set[ast.expr]] = defaultdict(set)  # what is assigned to each
        self.found: dict[ast.AST, Meaning] = {}
        self.kept = Kept(source, self)
        self.roles: set[Scope] = set()
        for scope in source.definitions.values():
            if scope.parent and scope.parent.is_class and "staticmethod" not in scope.decorators:
                pass_on(scope, [scope.parent if "classmethod" in scope.decorators else Instance(scope.parent)])
            if scope.parameters[:2] == ["member", "room"]:
                pass_on(scope, [MEMBER, ROOM])
        for name, arguments in roles.items():
            decorated = [what for _, what in source.top.names.get(name, ()) if isinstance(what, Scope)]
            for scope in decorated or [found for found in [self.bound(source.top, name)] if isinstance(found, Scope)]:
                self.roles.add(scope)
                self.driven.add(scope)
                pass_on(scope, arguments)
        while self.learn():
            self.found.clear()
        self.found.clear()

    # Learning.

    def learn(self) -> bool:
        """Look at the whole source. Returns whether there was something new."""
        before = self.knowledge()
        for call, scope in self.source.all(ast.Call):
            function, arguments = self.called(call)
            if function:
                pass_on(function, map(self.of, arguments))
                for keyword in call.keywords:
                    function.arguments[keyword.arg or ""].add(self.of(keyword.value))
                parent = self.source.parents[call]
                if (isinstance(parent, ast.YieldFrom) and scope in self.driven) or is_spawn(parent):
                    self.driven.add(function)
        assigned = dict(pair for node, _ in self.source.all((ast.Assign, ast.AnnAssign)) for pair in pairs(node))
        for target, _ in self.source.all(ast.Attribute):
            if isinstance(target.ctx, ast.Store) and isinstance(owner := self.of(target.value), Instance):
                # A target of `for` or `with` is not in `assigned`: what it gets is uncertain.
                self.attributes[owner.type, target.attr].add(assigned.get(target, UNCERTAIN))
        for scope in list(self.source.definitions.values()):  # asks() may read one more file
            if any(map(self.asks, scope.yields)):
                self.coroutines.add(scope)
                self.driven.add(scope)
        return self.knowledge() != before

    def knowledge(self) -> list[int]:
        arguments = sum(len(known) for scope in self.source.definitions.values() for known in scope.arguments.values())
        attributes = sum(map(len, self.attributes.values()))
        kept = self.kept.learn()
        return [len(self.source.scopes), arguments, attributes, kept, len(self.coroutines), len(self.driven)]

    def asks(self, node: ast.Yield | ast.YieldFrom) -> bool:
        """Whether the kernel is asked for something here."""
        meaning = self.of(node.value)
        if isinstance(node, ast.YieldFrom):
            return bool(meaning == NOT_RUN)
        return isinstance(meaning, Instance) and getattr(meaning.type, "__module__", "") == "loop.traps"

    # Telling.

    def of(self, node: ast.AST | None) -> Meaning:
        """What an expression stands for."""
        if node is not None and node not in self.found:
            self.found[node] = None  # in case it depends on itself, as in x = x.next
            self.found[node] = self.find_out(node) or self.members_in(node)
        return self.found.get(node) if node else None

    def members_in(self, node: ast.AST) -> Meaning:
        only, by_key = self.kept.has(node, MEMBER) if isinstance(node, (ast.Name, ast.Attribute)) else (False, False)
        return (BY_KEY if by_key else MEMBERS) if only else None

    def find_out(self, node: Any) -> Meaning:
        if isinstance(node, ast.Name):
            scope = self.source.scopes[node].find(node.id)
            return self.bound(scope, node.id) if scope else getattr(builtins, node.id, None)
        if isinstance(node, ast.Attribute):
            return self.attribute(self.of(node.value), node.attr)
        if isinstance(node, ast.Call):
            return self.result(node)
        if isinstance(node, ast.Lambda):
            return self.source.definitions[node]
        if isinstance(node, ast.NamedExpr):
            return self.of(node.value)
        if isinstance(node, ast.IfExp):
            return one_of(map(self.of, (node.body, node.orelse)))
        if isinstance(node, ast.Subscript):
            return MEMBER if self.of(node.value) in (MEMBERS, BY_KEY) else None
        return NOTHING if isinstance(node, ast.Constant) and node.value is None else None

    def bound(self, scope: Scope, name: str) -> Meaning:
        """What a name that is bound in this scope stands for."""
        return one_of(self.binding(scope, name, how, what) for how, what in scope.names.get(name, ()))

    def binding(self, scope: Scope, name: str, how: str, what: Any) -> Meaning:
        if how == VALUE:
            return self.of(what)
        if how == ITEM:
            return MEMBER if self.of(what) == MEMBERS else None
        if how == PARAMETER:
            return one_of(scope.arguments[name] - {None})
        if how == IMPORT:
            module = self.source.module(what[0])
            return self.attribute(module, what[1]) or self.source.module(".".join(what)) if what[1] else module
        return what if how == DEFINITION else None

    def attribute(self, base: Meaning, name: str) -> Meaning:
        if isinstance(base, Scope):
            found = self.bound(base, name)
            is_method = base.is_class and isinstance(found, Scope) and "classmethod" in found.decorators
            return Method(found) if is_method else found
        if isinstance(base, Instance) and isinstance(base.type, Scope):
            own = self.bound(base.type, name) or self.assigned(base, name)
            if isinstance(own, Scope) and not own.is_class and "staticmethod" not in own.decorators:
                return Method(own)
            bases = [found for node in base.type.node.bases if (found := self.of(node)) and found is not base.type]
            return own or one_of(self.attribute(Instance(parent), name) for parent in bases)
        if isinstance(base, Instance):
            if (base, name) == (ROOM, "members"):
                return MEMBERS
            if (base, name) == (MEMBER, "room"):
                return ROOM
            found = inspect.getattr_static(base.type, name, None)
            return found if isinstance(found, FunctionType) else self.assigned(base, name)
        found = getattr(base, name, None) if isinstance(base, (ModuleType, type)) else None
        return found if isinstance(found, (ModuleType, type, FunctionType)) else None

    def assigned(self, owner: Instance, name: str) -> Meaning:
        return one_of(map(self.of, self.attributes.get((owner.type, name), ())))

    def result(self, call: ast.Call) -> Meaning:
        """What a call returns."""
        meaning = self.of(call.func)
        function, arguments = self.called(call)
        if isinstance(call.func, ast.Attribute) and self.of(call.func.value) in (MEMBERS, BY_KEY):
            takes = call.func.attr in TAKING and len(call.args) < 2
            return MEMBER if takes else MEMBERS if call.func.attr == "values" else None
        if isinstance(meaning, Scope) and meaning.is_class:
            return Instance(meaning)
        if function:
            if function in self.coroutines:
                return NOT_RUN
            return None if function.yields else one_of(map(self.of, function.returns))
        if is_coroutine(meaning):
            return NOT_RUN
        if meaning in STILL_MEMBERS:
            return MEMBERS if len(arguments) > 1 and self.of(arguments[1]) == MEMBERS else None
        if isinstance(meaning, FunctionType):
            return ROOM if meaning.__qualname__ == "Room.other" else None
        return Instance(meaning) if isinstance(meaning, type) else None

    def called(self, call: ast.Call) -> tuple[Scope | None, list[ast.expr | None]]:
        """The function of the source that a call runs, if any; and its positional arguments, None for `self`."""
        meaning = self.of(call.func)
        arguments: list[ast.expr | None] = [*takewhile(lambda node: not isinstance(node, ast.Starred), call.args)]
        if isinstance(meaning, Scope) and not meaning.is_class:
            return meaning, arguments
        function = None
        if isinstance(meaning, Method):
            function = meaning.scope
        elif isinstance(meaning, Scope):
            found = self.bound(meaning, "__init__")
            function = found if isinstance(found, Scope) else None
        elif isinstance(call.func, ast.Attribute) and {MEMBER, ROOM} & set(map(self.of, arguments)):
            function = self.only_method(call.func.attr)  # only methods of the source take a member or a room
        return function, [None, *arguments]

    def only_method(self, name: str) -> Scope | None:
        """The one method of that name in all classes of the source, if there is just one."""
        scopes = self.source.definitions.values()
        found = [scope for scope in scopes if scope.parent and scope.parent.is_class and scope.node.name == name]
        return found[0] if len(found) == 1 else None


def one_of(meanings: Iterable[Meaning]) -> Meaning:
    """The meaning, if they are all the same; NOTHING among them does not count."""
    found = set(meanings)
    if len(found) > 1:
        found.discard(NOTHING)
    return found.pop() if len(found) == 1 else None


def pass_on(function: Scope, arguments: Iterable[Meaning]) -> None:
    """Note what the function's parameters stand for in one call."""
    for name, meaning in zip(function.parameters, arguments):
        function.arguments[name].add(meaning)


def is_coroutine(meaning: Meaning) -> bool:
    """Whether this is a coroutine of loop or chat: their docstrings begin with this word."""
    return inspect.isgeneratorfunction(meaning) and (meaning.__doc__ or "").startswith("COROUTINE.")


def is_spawn(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "spawn"
