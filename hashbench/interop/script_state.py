"""What a class leaves to a training script that hashbench does not run: attributes to set, methods to call.

Found in the source: nothing is run or built. Where the source does not tell (`setattr` with a computed name, `self`
given away, a base without source), nothing is said of attributes that nobody sets.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

_REGISTERS = ("register_buffer", "register_parameter", "register_module", "add_module")
_LOOKS = ("getattr", "hasattr", "setattr", "delattr")  # functions of an object and the name of an attribute
_HARMLESS = (*_LOOKS, "super", "isinstance", "type", "id", "len", "print", "repr", "str", "callable")
_UNREADABLE = ("__getattr__", "__getattribute__", "__setattr__", "__dict__")
_EPOCH = "begin_epoch(self, epoch)"


@dataclass
class _Uses:
    """What the methods of a class, and of its bases, do with attributes of `self`."""

    read: dict[str, int] = field(default_factory=dict)  # attribute -> the first line that reads it
    assigned: dict[str, set[str]] = field(default_factory=dict)  # attribute -> the methods that set it
    told: bool = True  # whether the source tells of all attributes that are set


@dataclass(frozen=True)
class _Place:
    """A line of a script, and the condition under which it comes to it."""

    line: int
    condition: str = ""

    def __str__(self) -> str:
        return f"line {self.line}{f', if {self.condition}' if self.condition else ''}"


def left_to_scripts(cls: type) -> list[str]:
    """Return a sentence for each attribute that `cls` reads and nobody sets, and each method that only a script calls.

    A script is the code outside the class in its file; it is not run here. What it sets and the class sets as well,
    but in `__init__` alone, keeps its first value.
    """
    found = _definition(cls)
    if found is None:
        return []
    tree, definition = found
    uses = _uses(cls)
    sets, calls = _script(tree, definition)
    sentences = []
    for name, place in sets.items():
        by = uses.assigned.get(name, set())
        if name in uses.read and by <= {"__init__"}:
            first = "it keeps the value that __init__ gives it" if by else "it has no value"
            sentences.append(
                f"it reads self.{name}, which the script of its file sets ({place}) and nobody sets here: {first}; set "
                f"it in {_EPOCH}."
            )
    if uses.told:
        known = {*dir(cls), *vars(nn.Module()), *uses.assigned, *sets, *_annotated(cls)}
        lines = {name: line for name, line in uses.read.items() if name not in known}
        sentences += [f"it reads self.{name} (line {line}), which nobody sets." for name, line in lines.items()]
    inherited = {name for base in cls.__bases__ for name in dir(base)}
    for name, place in calls.items():
        own = callable(vars(cls).get(name)) and name not in inherited and name != "begin_epoch"
        if own and name not in uses.read:
            sentences.append(
                f"the script of its file calls {name}() ({place}) and nobody calls it here; call it in {_EPOCH}."
            )
    return sentences


def reads_from_config(cls: type, key: str) -> bool:
    """Tell whether the class's own source names `key`, as in `config["dataset"]`."""
    found = _definition(cls)
    return found is not None and any(
        isinstance(node, ast.Constant) and node.value == key for node in ast.walk(found[1])
    )


def _definition(cls: type) -> tuple[ast.Module, ast.ClassDef] | None:
    """Return the tree of the file that defines a class, and the class in it; None where that cannot be had."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    try:
        tree = ast.parse(Path(file or "").read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    named = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    return (tree, named[0]) if len(named) == 1 else None


def _annotated(cls: type) -> set[str]:
    return {name for base in cls.__mro__ for name in vars(base).get("__annotations__", ())}


def _uses(cls: type) -> _Uses:
    uses = _Uses()
    for base in cls.__mro__:
        if base in (nn.Module, object):
            continue
        found = _definition(base)
        if found is None:
            uses.told = False
            continue
        for function in found[1].body:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                uses.told &= function.name not in _UNREADABLE
                arguments = [*function.args.posonlyargs, *function.args.args]
                decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
                if arguments and arguments[0].arg != "cls" and not decorators & {"staticmethod", "classmethod"}:
                    _look(function, function.name, arguments[0].arg, uses)
    return uses


def _look(function: ast.AST, name: str, self: str, uses: _Uses) -> None:
    """Note what a method does with its `self`."""
    allowed: set[ast.AST] = set()  # places of `self` that tell what they do
    for node in _inside(function):
        if isinstance(node, ast.Attribute) and _is(node.value, self):
            allowed.add(node.value)
            uses.told &= node.attr not in _UNREADABLE
            if isinstance(node.ctx, ast.Store):
                uses.assigned.setdefault(node.attr, set()).add(name)
            else:
                uses.read.setdefault(node.attr, node.lineno)
        elif isinstance(node, ast.Call):
            _look_at_call(node, name, self, uses, allowed)
        elif isinstance(node, ast.ExceptHandler) and node.type is not None:
            uses.told &= "AttributeError" not in ast.unparse(node.type)
    uses.told &= all(node in allowed for node in _inside(function) if _is(node, self))


def _look_at_call(call: ast.Call, name: str, self: str, uses: _Uses, allowed: set[ast.AST]) -> None:
    function, arguments = call.func, call.args
    if _is(function, self):  # self(x) is its forward
        allowed.add(function)
    if isinstance(function, ast.Attribute) and _is(function.value, self) and function.attr in _REGISTERS:
        named = arguments[0] if arguments else next((k.value for k in call.keywords if k.arg == "name"), None)
    elif isinstance(function, ast.Name) and function.id in _LOOKS and len(arguments) > 1 and _is(arguments[0], self):
        named = arguments[1]
    else:
        plain = isinstance(function, ast.Name) and function.id in _HARMLESS
        if plain or (isinstance(function, ast.Attribute) and function.attr == "__init__"):
            allowed.update(argument for argument in arguments if _is(argument, self))
        return
    allowed.update(argument for argument in arguments if _is(argument, self))
    if isinstance(named, ast.Constant) and isinstance(named.value, str):
        uses.assigned.setdefault(named.value, set()).add(name)
    else:
        uses.told = False


def _script(tree: ast.Module, definition: ast.ClassDef) -> tuple[dict[str, _Place], dict[str, _Place]]:
    """Return what the code outside a class sets on its instances, and what it calls on them, by name."""
    outside = [*_outside(tree, definition, "")]
    instances: set[str] = set()
    for node, _ in outside:
        if isinstance(node, ast.Assign) and _builds(node.value, definition.name):
            instances |= {ast.unparse(target) for target in node.targets}
    sets: dict[str, _Place] = {}
    calls: dict[str, _Place] = {}
    for node, condition in outside:
        called = isinstance(node, ast.Call)
        at = node.func if isinstance(node, ast.Call) else node
        if isinstance(at, ast.Attribute) and ast.unparse(at.value) in instances:
            if called:
                calls.setdefault(at.attr, _Place(at.lineno, condition))
            elif isinstance(at.ctx, ast.Store):
                sets.setdefault(at.attr, _Place(at.lineno, condition))
    return sets, calls


def _builds(value: ast.AST, name: str) -> bool:
    """Tell whether an expression is `Name(...)`, or that with methods called on it, as in `Name(...).to(device)`."""
    while isinstance(value, ast.Call):
        if _is(value.func, name):
            return True
        value = value.func.value if isinstance(value.func, ast.Attribute) else value.func
    return False


def _outside(node: ast.AST, definition: ast.ClassDef, condition: str) -> Iterator[tuple[ast.AST, str]]:
    """Yield all nodes outside a class with the innermost condition under which each is reached."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or child is definition:
                continue
            inner = condition
            if isinstance(node, ast.If) and name in ("body", "orelse"):
                test = ast.unparse(node.test)
                if "__name__" not in test:
                    inner = test if name == "body" else f"not ({test})"
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                inner = ""
            yield child, inner
            yield from _outside(child, definition, inner)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a function but those of classes in it, whose `self` is another."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef):
            yield child
            yield from _inside(child)


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
