"""Rewrites the parsed tree of a chat template so that it pays for what it does: see `sandbox`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateAssertionError
from jinja2.visitor import NodeTransformer

# A template of 20 KB, as long as those of real models get, has 2,000; compiling takes up to 100
# microseconds a node, and more in macros within macros.
MAX_NODES = 6_000
MAX_NESTED_MACROS = 5

CHARACTERS = 32  # cost one unit


def name_set(text: str) -> frozenset[str]:
    """Names that are written one after the other."""
    return frozenset(text.split())


_NODES = name_set(
    "Add And Assign AssignBlock Break Call CallBlock Compare Concat CondExpr Const Continue Dict "
    "Div Filter FilterBlock FloorDiv For Getattr Getitem If Keyword List Macro Mod Mul NSRef Name "
    "Neg Not Operand Or Output Pair Pos Pow Scope Slice Sub Template TemplateData Test Tuple With"
)
# Filters that `Meter` puts in: no name in a template has a blank.
EACH, ENTER, READ, COPY, COMPARE = FILTERS = (
    "each item",
    "enter a body",
    "read a value",
    "copy a value",
    "compare values",
)

# Each item of a value of one of these types costs a unit.
CONTAINERS = (list, tuple, dict, range, *map(type, ({}.keys(), {}.values(), {}.items())))


def size(value: object) -> int:
    """Return the cost of a shallow copy of a value; at least 1."""
    if isinstance(value, str):
        return 1 + len(value) // CHARACTERS
    if isinstance(value, int):
        return 1 + value.bit_length() // (8 * CHARACTERS)
    return 1 + len(value) if isinstance(value, CONTAINERS) else 1


class Meter(NodeTransformer):
    """Rewrites a template so that it pays.

    Raises:
        TemplateAssertionError: it has too many nodes, or one that no chat template needs.
    """

    def __init__(self) -> None:
        self._nodes = 0
        self._macros = 0  # around the node that is visited

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise TemplateAssertionError(f"it has more than {MAX_NODES:,} nodes", node.lineno)
        if (kind := type(node).__name__) not in _NODES:
            raise TemplateAssertionError(f"{kind} has no place in a chat template", node.lineno)
        return super().visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise TemplateAssertionError("a loop cannot be recursive here", node.lineno)
        self.generic_visit(node)
        units = _cost([*node.body, *filter(None, [node.test])])
        node.iter = _filter(EACH, node.iter, nodes.Const(units))
        return node

    def visit_Macro(self, node: nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self._macros += 1
        if self._macros > MAX_NESTED_MACROS:
            raise TemplateAssertionError("macros are nested too deep", node.lineno)
        self.generic_visit(node)
        self._macros -= 1
        units = nodes.Const(_cost([*node.body, *node.defaults]), lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(_filter(ENTER, units), lineno=node.lineno))
        return node

    visit_CallBlock = visit_Macro

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = list(map(_read, node.nodes))
        return node

    visit_Concat = visit_Output

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        rest = [part for o in node.ops for part in (nodes.Const(o.op), o.expr)]
        return _filter(COMPARE, node.expr, *rest)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filter(COPY, node.node)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = _read(node.key)
        return node

    def visit_Call(self, node: nodes.Call | nodes.Filter | nodes.Test) -> nodes.Node:
        self.generic_visit(node)
        for name in ("dyn_args", "dyn_kwargs"):
            if (given := getattr(node, name)) is not None:
                setattr(node, name, _read(given))
        return node

    visit_Filter = visit_Test = visit_Call


def _filter(name: str, value: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None, lineno=value.lineno)


def _read(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const | nodes.TemplateData) else _filter(READ, node)


def _cost(body: Iterable[nodes.Node]) -> int:
    """Return the number of nodes in a body and the size of its texts, without nodes that pay by
    themselves."""
    units, waiting = 1, list(body)
    while waiting:
        node = waiting.pop()
        units += size(getattr(node, "data", getattr(node, "value", None)))  # of literal texts
        if isinstance(node, nodes.For):
            waiting += [node.iter, *node.else_]
        elif isinstance(node, nodes.CallBlock):
            waiting.append(node.call)
        elif not isinstance(node, nodes.Macro):
            waiting += node.iter_child_nodes()
    return units
