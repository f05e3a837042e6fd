"""Comments on a config's fields, from the source of its `get_config`, which is read and not run."""

import ast
import io
import pathlib
import tokenize
from collections.abc import Iterable
from typing import NamedTuple


class Comment(NamedTuple):
    """Comments on a field: in lines of their own above it, and behind its value."""

    above: str = ""
    beside: str = ""


Fields = dict[str, Comment]  # by dotted name, in the order of the source


def read(path: pathlib.Path) -> Fields:
    """Comments on the fields of a config file, and of `configs/common.py` where it calls that.

    It follows dictionaries, their unions and updates, ConfigDicts and calls of functions. A field
    that is made in any other way is left out.
    """
    return _Source(path).returned("get_config")


class _Source:
    """A file's functions, and its comments by row."""

    def __init__(self, path: pathlib.Path) -> None:
        self.folder, text = path.parent, path.read_text(encoding="utf-8")
        self.alone, self.beside = dict[int, str](), dict[int, str]()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                kind = self.beside if token.line[:column].strip() else self.alone
                kind[row] = token.string.lstrip("# ")
        body = ast.parse(text).body
        self.functions = {each.name: each for each in body if isinstance(each, ast.FunctionDef)}

    def returned(self, function: str) -> Fields:
        """Fields of what a function returns, none if there is no such function."""
        fields: Fields = {}  # those of the variable NAME begin with "NAME."
        for statement in _statements(self.functions.get(function)):
            match statement:
                case ast.Return(value=ast.expr() as value):
                    return self.value(value, fields)
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        if isinstance(target, ast.Attribute):
                            found = {ast.unparse(target): self.comment(target.lineno, value)}
                            _merge(fields, found)
                        _merge(fields, _within(ast.unparse(target), self.value(value, fields)))
                case (
                    ast.Expr(ast.Call(ast.Attribute(target, "update"), [value]))
                    | ast.AugAssign(target=target, op=ast.BitOr(), value=value)
                ):
                    _merge(fields, _within(ast.unparse(target), self.value(value, fields)))
        return {}

    def value(self, node: ast.expr, known: Fields) -> Fields:
        """Fields of an expression, given those of the variables."""
        match node:
            case ast.Dict(keys=keys, values=values):
                fields: Fields = {}
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant):
                        # What stands above a line that begins the dictionary is about all of it.
                        row = key.lineno if key.lineno > node.lineno else 0
                        fields[str(key.value)] = self.comment(row, value)
                        fields |= _within(str(key.value), self.value(value, known))
                return fields
            case ast.BinOp(left, ast.BitOr(), right):
                return _merge(self.value(left, known), self.value(right, known))
            case ast.Call(ast.Name("ConfigDict"), [value]) | ast.Call(
                ast.Attribute(value, "to_dict")
            ):
                return self.value(value, known)
            case ast.Call(ast.Name(function)):
                return self.returned(function)
            case ast.Call(ast.Attribute(ast.Name("common"), function)):
                return _Source(self.folder / "common.py").returned(function)
            case ast.Name() | ast.Attribute():
                prefix = f"{ast.unparse(node)}."
                names = (name for name in known if name.startswith(prefix))
                return {name.removeprefix(prefix): known[name] for name in names}
        return {}

    def comment(self, row: int, value: ast.expr) -> Comment:
        """Comments right above a row, and behind the value of the field that begins there."""
        above: list[str] = []
        while (row := row - 1) in self.alone:
            above.insert(0, self.alone[row])
        return Comment(" ".join(above), self.beside.get(value.end_lineno or 0, ""))


def _statements(block: ast.stmt | None) -> Iterable[ast.stmt]:
    """The statements of a function, with those inside of its branches and loops, in order."""
    for each in getattr(block, "body", []):
        yield each
        yield from _statements(each)


def _within(name: str, fields: Fields) -> Fields:
    return {f"{name}.{field}": comment for field, comment in fields.items()}


def _merge(fields: Fields, others: Fields) -> Fields:
    """Add others to some fields; a comment gives way to another, not to none."""
    fields |= {name: each for name, each in others.items() if any(each) or name not in fields}
    return fields
