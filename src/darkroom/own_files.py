"""Python files of the user: what is wrong with one, found without running it, and running it."""

import ast
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from darkroom.errors import UserError, brief, did_you_mean, listed
from darkroom.own_names import MAX_NAMES, Arguments, Broken, OwnName
from darkroom.paths import OWN

_MODULES = "darkroom_own"
"""Files are imported as modules of this package, so that they hide no other module."""


class OwnObject(NamedTuple):
    """A function or a class that was loaded from a file."""

    value: Callable[..., Any]
    sha256: str
    """Of the file, in hexadecimal digits."""
    name: OwnName

    def arguments(self) -> Arguments:
        """Return the arguments that it takes by name."""
        try:
            parameters = inspect.signature(self.value).parameters.values()
        except (TypeError, ValueError):  # a callable of another language
            return Arguments(frozenset(), frozenset())
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        return Arguments(
            frozenset(p.name for p in named), frozenset(p.name for p in named if p.default is p.empty)
        )

    def place(self, error: BaseException) -> str:
        """Return the last line of the file that was running when ``error`` was raised, and the error."""
        return f"{_place(self.name.path, error)}: {_shown(error)}"


def look_at(value: str) -> Arguments | None:
    """Check a file without running it; return the arguments of what is named, None if unknown.

    They are unknown of a name that is imported or assigned, and of a class without ``__init__``.

    Raises:
        Broken: there is no such file; it is not Python; it has no such name, or imports a module that is
            not installed or is another file of the user.
    """
    own = OwnName.parse(value)
    tree = _parsed(own)
    for line, module, level in _imports(tree):
        if problem := _import_problem(own.path, module, level):
            raise Broken(f"{own.path}:{line}: {problem}")
    names = dict(_names(tree))
    if own.name not in names and not any(alias == "*" for alias in names):
        raise Broken(_no_such_name(own, names))
    return _arguments(names.get(own.name))


def load(option: str, value: str) -> OwnObject:
    """Run a file and return what is named.

    Files with the same bytes run once per process.

    Args:
        option: the parameter that has the value, for messages.

    Raises:
        UserError: see ``look_at``; or the file raises an exception, or the name is not callable.
    """
    own = OwnName.parse(value)
    try:
        look_at(value)
        content = own.content()
        module = _module(own.path, content)
        found = getattr(module, own.name, None)
        if found is None:
            raise Broken(_no_such_name(own, vars(module)))
        if not callable(found):
            kind = type(found).__name__
            raise Broken(f"{own.path}: {own.name} is of type {kind}; it must be a function or a class")
    except Broken as error:
        raise UserError(f"{option}: {error}") from None
    return OwnObject(found, hashlib.sha256(content).hexdigest(), own)


@lru_cache(maxsize=64)
def _module(path: Path, content: bytes) -> ModuleType:
    """Run a file as a module; ``__pycache__`` is not written.

    Raises:
        Broken: the file raises an exception.
    """
    module = ModuleType(f"{_MODULES}.{path.stem}")
    module.__file__ = f"{path}"
    previous = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module  # dataclasses look here
    try:
        # the path is relative, because some formats of models hold the names of files
        exec(compile(content, f"{path}", "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:  # a script without a guard may exit
        if previous is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = previous
        raise Broken(f"{_place(path, error)}: {_shown(error)}") from None
    return module


def _place(path: Path, error: BaseException) -> str:
    """Return the file, with the last of its lines that was running when an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == f"{path}" and frame.lineno]
    return f"{path}:{lines[-1]}" if lines else f"{path}"


def _shown(error: BaseException) -> str:
    text = brief(error)
    return text if text == type(error).__name__ else f"{type(error).__name__}: {text}"


def _parsed(own: OwnName) -> ast.Module:
    try:
        return ast.parse(own.content(), f"{own.path}")
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise Broken(f"{own.path}{line}: {error.msg}; it is not valid Python") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Broken(f"{own.path}: {brief(error)}; it is not valid Python") from None


def _imports(tree: ast.Module) -> Iterator[tuple[int, str, int]]:
    """Yield line, module and level of imports that are run whenever the file is."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "", node.level


def _import_problem(path: Path, module: str, level: int) -> str:
    """Return what is wrong with an import; empty if nothing is."""
    first = module.partition(".")[0]
    if not level and (not first or _is_installed(first)):
        return ""
    beside = (path.parent / name for name in (first, f"{first}.py"))
    if level or first == OWN.name or any(place.exists() for place in beside):
        return (
            f"{'.' * level}{module} is another file of the project; a file stands on its own, so that"
            " its digest covers all of its code: move the code here"
        )
    return f"the package {first} is not installed"


def _is_installed(module: str) -> bool:
    try:
        found = find_spec(module)
    except (ImportError, ValueError):
        return module in sys.modules
    if found is None:
        return False
    places = [found.origin, *(found.submodule_search_locations or ())]
    return not any(place and Path(place).is_relative_to(OWN.absolute()) for place in places)


def _names(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the names that the top level of a file defines, with their statements."""
    for node in _statements(tree.body):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node
            case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
                yield from ((alias.asname or alias.name.partition(".")[0], node) for alias in aliases)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                parts = (part for target in targets for part in ast.walk(target))
                yield from ((part.id, node) for part in parts if isinstance(part, ast.Name))


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements and those within conditions and the like, not within functions and classes."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for field in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)


def _arguments(node: ast.stmt | None) -> Arguments | None:
    """Return the arguments of a function or a class; None if the statement does not tell."""
    skipped = 0
    if isinstance(node, ast.ClassDef):
        made_by = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        node, skipped = (made_by[-1] if made_by else None), 1
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return None
    arguments = node.args
    positional = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args)]
    required = positional[skipped : len(positional) - len(arguments.defaults)]
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return Arguments(
        frozenset([*positional[skipped:], *(arg.arg for arg in arguments.kwonlyargs)]),
        frozenset([*required, *(arg.arg for arg, default in keywords if default is None)]),
    )


def _no_such_name(own: OwnName, names: Iterable[str]) -> str:
    """Return that a file lacks the name."""
    public = [name for name in names if not name.startswith("_")]
    near = did_you_mean(own.name, public) or f"; it defines {listed(public, MAX_NAMES) or 'nothing'}"
    return f"{own.path} does not define {own.name}{near}"
