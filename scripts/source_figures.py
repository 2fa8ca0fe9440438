"""Reads the source of a checkout as text: what `scripts/walk.py --static` shows, and how it counts.

Boxes: the direct children of a package. Arrows: pairs of children of which one imports the other, also inside
functions; those under `if TYPE_CHECKING` alone are counted apart and make no circle. Circles: groups of
children, or of modules, that reach each other. Code: lines with a token, but for comments and docstrings.
Opening words: also of the strings below fields and constants. Tests count nowhere.
"""

from __future__ import annotations

import ast
import io
import os
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def packages(tree: Path) -> list[str]:
    """Return the packages that the tree's wheel holds."""
    tool = tomllib.loads((tree / "pyproject.toml").read_text())["tool"]
    return list(tool["hatch"]["build"]["targets"]["wheel"]["packages"])


class Module(NamedTuple):
    """One file of Python."""

    file: str
    name: str
    source: str
    tree: ast.Module


Import = tuple[str, str, bool]
"""Who imports what, and whether it stands under `if TYPE_CHECKING`."""


def static(tree: Path) -> dict[str, Any]:
    """Read the source of a checkout."""
    names = packages(tree)
    modules = [module for folder in (*names, "demo", "scripts") for module in read(tree, folder)]
    imports = imports_of(modules)
    lines = {module.file: module.source.count("\n") for module in modules if not module.file.endswith("__init__.py")}
    return {
        "packages": {name: rooms(name, modules, imports) for name in names},
        "circles of modules": circles((who, what) for who, what, is_for_types in imports if not is_for_types),
        "code": sizes(modules),
        "class names in more than one file": repeated_classes(modules),
        "modules under 60 lines": sorted(file for file, count in lines.items() if count < 60),
        "modules over 400 lines": sorted(file for file, count in lines.items() if count > 400),
        "docstrings": openings(modules),
    }


def read(tree: Path, folder: str) -> list[Module]:
    """Return the modules below a folder of the tree."""
    found = []
    for path in sorted((tree / folder).rglob("*.py")):
        file, source = path.relative_to(tree), path.read_text(encoding="utf-8")
        parts = file.parent.parts if path.name == "__init__.py" else file.with_suffix("").parts
        found.append(Module(str(file), ".".join(parts), source, ast.parse(source)))
    return found


def imports_of(modules: Sequence[Module]) -> set[Import]:
    """Return what the modules import of each other, in functions too."""
    known = {module.name for module in modules}
    found = set()
    for module in modules:
        for target, is_for_types in imported(module.tree, module):
            name = target if target in known else target.rpartition(".")[0]
            if name in known and name != module.name:
                found.add((module.name, name, is_for_types))
    return found


def imported(node: ast.AST, module: Module, is_for_types: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the dotted name of everything that is imported below a node, and whether for type checkers alone."""
    match node:
        case ast.Import(names=names):
            yield from ((alias.name, is_for_types) for alias in names)
        case ast.ImportFrom(module=target, names=names, level=level):
            near = [*Path(module.file).parts[: -level or None]] if level else []
            base = ".".join([*near, *([target] if target else [])])
            yield from ((f"{base}.{alias.name}", is_for_types) for alias in names)
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), body=body, orelse=orelse):
            for statement in (*body, *orelse):
                yield from imported(statement, module, is_for_types or statement in body)
        case _:
            for inner in ast.iter_child_nodes(node):
                yield from imported(inner, module, is_for_types)


def rooms(package: str, modules: Iterable[Module], imports: Iterable[Import]) -> dict[str, Any]:
    """Count a package's boxes, the arrows between them, and the circles that these make."""
    boxes = {module.name.split(".")[1] for module in modules if module.name.startswith(f"{package}.")}
    arrows: dict[bool, set[tuple[str, str]]] = {False: set(), True: set()}
    for importer, wanted, is_for_types in imports:
        ends = [name.split(".")[1] for name in (importer, wanted) if name.startswith(f"{package}.")]
        if len(set(ends)) == 2:
            arrows[is_for_types].add((ends[0], ends[1]))
    return {
        "drawn": {"boxes": len(boxes), "arrows": len(arrows[False]), "for types": len(arrows[True] - arrows[False])},
        "circles": circles(arrows[False]),
    }


def circles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of more than one whose members all reach each other."""
    after = defaultdict(set)
    for start, end in arrows:
        after[start].add(end)
    reached = {start: reach(start, after) for start in list(after)}
    groups = {frozenset(one for one in ends if start in reached.get(one, ())) for start, ends in reached.items()}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def reach(start: str, after: Mapping[str, Iterable[str]]) -> set[str]:
    """Return everything that can be reached from a start in one step or more."""
    found, waiting = set[str](), [start]
    while waiting:
        fresh = set(after.get(waiting.pop(), ())) - found
        found |= fresh
        waiting += fresh
    return found


def sizes(modules: Iterable[Module]) -> dict[str, dict[str, float]]:
    """Count files, lines of code and comments, by top folder and of all."""
    found: dict[str, dict[str, float]] = {}
    for module in modules:
        code, comments = measure(module)
        for name in (module.file.split(os.sep)[0], "total"):
            row = found.setdefault(name, {"files": 0, "lines of code": 0, "comments": 0})
            row["files"] += 1
            row["lines of code"] += code
            row["comments"] += comments
    for row in found.values():
        row["comments per 100 lines"] = round(100 * row["comments"] / max(1, row["lines of code"]), 2)
    return {name: found[name] for name in [*(name for name in found if name != "total"), "total"]}


def measure(module: Module) -> tuple[int, int]:
    """Count the lines of code, without blanks, comments and docstrings, and the comments."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines, comments = set[int](), 0
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        comments += token.type == tokenize.COMMENT
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(module.tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines), comments


def openings(modules: Iterable[Module]) -> dict[str, int]:
    """Count the docstrings, of fields and constants too, and those that open in a way that says little."""
    nodes = (node for module in modules for node in ast.walk(module.tree) if isinstance(node, ast.Expr))
    values = (node.value.value for node in nodes if isinstance(node.value, ast.Constant))
    texts = [value.lstrip() for value in values if isinstance(value, str)]
    begun = {f"open with {word!r}": sum(text.startswith(f"{word} ") for text in texts) for word in ("What", "One")}
    return {"of all": len(texts), **begun}


def repeated_classes(modules: Iterable[Module]) -> dict[str, str]:
    """Return the public class names that stand in more than one file, with the files."""
    files = defaultdict(set)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files[node.name].add(module.file)
    return {name: ", ".join(sorted(where)) for name, where in sorted(files.items()) if len(where) > 1}
