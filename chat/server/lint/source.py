"""The source of a handler: its modules, classes and functions, and what each name in them is bound to."""

from __future__ import annotations

import ast
import os
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterable
from importlib.util import resolve_name
from types import ModuleType
from typing import Any

# Scope.names has, for each name, pairs (how, what): `how` is one of these words, and its comment says what `what` is
VALUE = "value"  # an expression
ITEM = "item"  # the expression that a loop goes through
DEFINITION = "definition"  # a Scope
IMPORT = "import"  # (module, name): `from module import name`; name is "" for `import module`
PARAMETER = "parameter"
UNKNOWN = "unknown"

SEQUENCES = (ast.Tuple, ast.List)
UNCERTAIN = ast.Constant(...)  # stands for a value about which the source says nothing
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
HARMLESS = {"staticmethod", "classmethod"}  # decorators that leave a function what it is


class Scope:
    """A module, class or function, and the names bound in it."""

    def __init__(self, node: Any, parent: Scope | None, module: ModuleType) -> None:
        self.node = node
        self.parent = parent
        self.module = module
        self.names: dict[str, list[tuple[str, Any]]] = {}
        self.elsewhere: dict[str, Scope] = {}  # for global and nonlocal names, the scopes that have them
        self.is_class = isinstance(node, ast.ClassDef)
        self.decorators = {getattr(decorator, "id", "") for decorator in getattr(node, "decorator_list", ())}
        self.parameters: list[str] = []  # the positional ones
        self.arguments: dict[str, set[Any]] = defaultdict(set)  # for each parameter, the meanings of what calls pass
        self.yields: list[ast.Yield | ast.YieldFrom] = []
        self.returns: list[ast.expr] = []

    def bind(self, name: str, how: str, what: Any = None) -> None:
        self.elsewhere.get(name, self).names.setdefault(name, []).append((how, what))

    def find(self, name: str) -> Scope | None:
        """The scope that binds a name which is used in this scope."""
        scope: Scope | None = self.elsewhere.get(name, self)
        while scope and (name not in scope.names or (scope.is_class and scope is not self)):
            scope = scope.parent
        return scope


class Source:
    """The source of a module, and of the modules in its folder that it imports."""

    def __init__(self, module: ModuleType) -> None:
        self.folder = folder_of(module)
        self.modules: dict[ModuleType, Scope] = {}
        self.parents: dict[ast.AST, ast.AST] = {}
        self.scopes: dict[ast.AST, Scope] = {}  # the scope in which a node stands
        self.definitions: dict[ast.AST, Scope] = {}  # the scope that a function or class opens
        self.understood: set[ast.AST] = set()  # names for which assign() has noted what is assigned to them
        self.top = self.read(module)

    def all(self, kind: type[Any] | tuple[type[Any], ...]) -> list[tuple[Any, Scope]]:
        """All nodes of a kind or of several, each with the scope it stands in. A copy: more may be read meanwhile."""
        return [(node, scope) for node, scope in self.scopes.items() if isinstance(node, kind)]

    def module(self, name: str) -> Scope | ModuleType | None:
        """An imported module: its Scope if its source is in our folder, the module itself if it is of loop or chat."""
        module = sys.modules.get(name)
        if module and folder_of(module) == self.folder:
            return self.read(module)
        return module if name.partition(".")[0] in ("loop", "chat") else None

    def read(self, module: ModuleType) -> Scope:
        if module not in self.modules:
            with tokenize.open(str(module.__file__)) as file:
                tree = ast.parse(file.read())
            self.modules[module] = Scope(tree, None, module)
            self.visit(tree.body, tree, self.modules[module])
        return self.modules[module]

    def visit(self, nodes: Iterable[ast.AST], parent: ast.AST, scope: Scope) -> None:
        for node in nodes:
            self.parents[node], self.scopes[node] = parent, scope
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                self.define(node, scope)
            else:
                self.note(node, scope)
                self.visit(ast.iter_child_nodes(node), node, scope)

    def define(self, node: Any, scope: Scope) -> None:
        """Open the scope of a function or class. Its decorators, defaults and bases belong to the scope around it."""
        inner = self.definitions[node] = Scope(node, scope, scope.module)
        if isinstance(node, ast.Lambda):
            body = inner.returns = [node.body]
        else:
            body = node.body
            changed = isinstance(node, ast.AsyncFunctionDef) or not inner.decorators <= HARMLESS
            scope.bind(node.name, UNKNOWN if changed else DEFINITION, inner)
        if not inner.is_class:
            inner.parameters = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args]]
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):  # also those of a lambda in a default, which does no harm
                    inner.bind(argument.arg, PARAMETER)
        self.visit([child for child in ast.iter_child_nodes(node) if child not in body], node, scope)
        self.visit(body, node, inner)

    def note(self, node: Any, scope: Scope) -> None:
        """Note what a node says about names."""
        if isinstance(node, ast.Global):
            scope.elsewhere.update(dict.fromkeys(node.names, self.modules[scope.module]))
        elif isinstance(node, ast.Nonlocal) and scope.parent:
            scope.elsewhere.update((name, found) for name in node.names if (found := scope.parent.find(name)))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                scope.bind(name, IMPORT, (alias.name if alias.asname else name, ""))
        elif isinstance(node, ast.ImportFrom):
            self.note_import(node, scope)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
            for target, value in pairs(node):
                self.assign(target, scope, VALUE, value)
        elif isinstance(node, (ast.For, ast.comprehension)):
            self.assign(node.target, scope, ITEM, node.iter)
        elif isinstance(node, (ast.Yield, ast.YieldFrom)):
            scope.yields.append(node)
        elif isinstance(node, ast.Return) and node.value:
            scope.returns.append(node.value)
        elif isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load) and node not in self.understood:
                scope.bind(node.id, UNKNOWN)
        elif not isinstance(node, ast.alias):
            for named in getattr(node, "name", None), getattr(node, "rest", None):  # `except ... as`, and patterns
                if isinstance(named, str):
                    scope.bind(named, UNKNOWN)

    def assign(self, target: ast.expr, scope: Scope, how: str, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.understood.add(target)
            scope.bind(target.id, how, value)

    def note_import(self, node: ast.ImportFrom, scope: Scope) -> None:
        try:
            place = resolve_name("." * node.level + (node.module or ""), scope.module.__package__ or "")
        except ImportError:
            place = ""
        for alias in node.names:
            for name in [alias.name] if alias.name != "*" else vars(sys.modules.get(place, ast)):
                scope.bind(alias.asname or name, IMPORT, (place, name))


def pairs(node: ast.Assign | ast.AnnAssign | ast.NamedExpr) -> list[tuple[ast.expr, ast.expr]]:
    """Each target of an assignment with its value: `a, b = c = 1, 2` has (a, 1), (b, 2) and (c, `1, 2`)."""
    if not node.value:
        return []
    found = []
    left = [(target, node.value) for target in (node.targets if isinstance(node, ast.Assign) else [node.target])]
    while left:
        target, value = left.pop()
        if isinstance(target, SEQUENCES):
            values = value.elts if isinstance(value, SEQUENCES) else []
            if len(values) != len(target.elts) or any(isinstance(one, ast.Starred) for one in (*target.elts, *values)):
                values = [UNCERTAIN] * len(target.elts)
            left += zip(target.elts, values)
        elif isinstance(target, ast.Starred):
            left.append((target.value, UNCERTAIN))
        else:
            found.append((target, value))
    return found


def folder_of(module: ModuleType) -> str:
    file = getattr(module, "__file__", None) or ""
    return os.path.dirname(os.path.abspath(file)) if file.endswith(".py") else ""
