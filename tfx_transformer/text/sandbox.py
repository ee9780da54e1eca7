"""Chat templates from anywhere, in Jinja's sandbox and with an allowance.

Jinja's own sandbox keeps a template from private attributes, from changing what it is given, and
from a `range` of more than 100,000. What a template costs it does not bound: loops stand in loops,
a text doubles in each round, `'%999999999d' % 1` is one operation. So here everything pays before
it is done, in units of about a microsecond and 32 characters, out of an allowance that grows with
the conversation; a template that has spent it is refused. One count bounds time and memory alike.

- Each round of a loop, and each call of a macro, costs the number of nodes in its body.
- What reads or copies values costs their size: operators, comparisons, output, calls, filters.
- What multiplies (`*`, `replace`, `join`, `indent`, a search in a text) costs the product.

For that the parsed template is rewritten: `_Meter` puts filters that pay, under names which no
template can write, around iterables, operands and outputs. What no chat template needs, whether
statement, filter, test, method or global name, does not exist here, so that what Jinja adds later
does not either. All else is what `transformers` does with a template, to the letter.
"""

from __future__ import annotations

import functools
import json
import operator
import re
import string
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Template, ext, nodes, runtime
from jinja2.exceptions import SecurityError, TemplateAssertionError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

# What the templates of real models spend is less than a tenth of it, which a test holds.
LEAST_ALLOWANCE = 300_000
ALLOWANCE_PER_MESSAGE = 5_000
ALLOWANCE_PER_CHARACTER = 2

# A template of 20 KB, as long as those of real models get, has 2,000; compiling takes up to 100
# microseconds a node, and more in macros within macros.
MAX_NODES = 6_000
MAX_NESTED_MACROS = 5

_CHARACTERS = 32  # cost one unit
_BITS = 64  # of numbers that are reckoned with
_LEVELS = 100  # of lists in lists
_FILTERS = 20  # that wait for one another's items


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NODES = _names(
    "Add And Assign AssignBlock Break Call CallBlock Compare Concat CondExpr Const Continue Dict "
    "Div Filter FilterBlock FloorDiv For Getattr Getitem If Keyword List Macro Mod Mul NSRef Name "
    "Neg Not Operand Or Output Pair Pos Pow Scope Slice Sub Template TemplateData Test Tuple With"
)
# By the type of what has them. Of other types only loops, macros and namespaces have attributes.
_METHODS = {
    str: _names(
        "capitalize casefold count endswith find format format_map index isalnum isalpha isascii "
        "isdecimal isdigit islower isnumeric isspace istitle isupper join lower lstrip partition "
        "removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines "
        "startswith strip swapcase title upper"
    ),
    dict: _names("copy get items keys values"),
    list: _names("copy count index"),
    tuple: _names("count index"),
}
# What looks at a value, or hands it on, costs no more than its node.
_FREE_FILTERS = _names("count d default first items last length")
_FREE_TESTS = _names(
    "boolean callable defined escaped false float integer iterable mapping none number sameas "
    "sequence string true undefined"
)
_READING_FILTERS = _names("abs capitalize dictsort e escape float int lower safe string trim upper")
_READING_TESTS = _names(
    "!= < <= == > >= eq equalto ge greaterthan gt le lessthan lower lt ne upper"
)
_NUMBER_TESTS = _names("divisibleby even odd")
_ITEM_FILTERS = _names("list reverse title")  # of a text they see every character
_LISTING_FILTERS = _names("join max min sort unique")  # make a list first, also of a text
_LAZY_FILTERS = _names("map reject rejectattr select selectattr")  # pay for each item

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}
# Filters that `_Meter` puts in: no name in a template has a blank.
_EACH, _ENTER, _READ, _COPY, _COMPARE = _OURS = (
    "each item",
    "enter a body",
    "read a value",
    "copy a value",
    "compare values",
)

_CONTAINERS = (list, tuple, dict, range, *map(type, ({}.keys(), {}.values(), {}.items())))
_SIZED = (str, *_CONTAINERS)
# A part of a `%` format that is as wide as its value.
_PLAIN_PART = re.compile(r"%(\(\w+\))?[%dfrs]")


class TooCostlyError(SecurityError):
    """A template asks for more than its allowance."""


def size(value: object) -> int:
    """What it costs to copy a value, but not what is in it; at least 1."""
    if isinstance(value, str):
        return 1 + len(value) // _CHARACTERS
    if isinstance(value, int):
        return 1 + value.bit_length() // (8 * _CHARACTERS)
    return 1 + len(value) if isinstance(value, _CONTAINERS) else 1


def weight(value: object, most: int) -> int:
    """What it costs to read a value and all that is in it, as often as it is in it.

    It is not counted far beyond `most`: reading a list that holds one list twice, which holds one
    twice, … does not end. Nor is what lies too deep, where Python's `hash` would crash.
    """
    total, level = 0, [value]
    for _ in range(_LEVELS):
        inner: list[object] = []
        for value in level:
            total += size(value)
            if total > most:
                return total
            if isinstance(value, _CONTAINERS):
                inner.extend(value)
                inner.extend(value.values() if isinstance(value, dict) else ())
        if not inner:
            return total
        level = inner
    raise TooCostlyError(f"something lies in more than {_LEVELS} lists, one in the other")


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Compiles chat templates and runs them.

    Args:
        names: global names beside `range`, `dict` and `namespace`.
    """

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self, names: Mapping[str, Any]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # what is computed while compiling would not pay
            extensions=[ext.loopcontrols, _Generation],
        )
        self._left = 0
        self._rendering = threading.Lock()  # an allowance is that of one rendering
        self.globals = {"range": self.globals["range"], "dict": dict, "namespace": _Namespace}
        self.globals |= names
        self.filters = self._paying_filters(self.filters)
        self.tests = self._paying_tests(self.tests)

    def compiled(self, text: str) -> Template:
        """A template that pays for what it does.

        Raises:
            TemplateSyntaxError: it is none, or uses what no chat template needs.
        """
        tree = _Meter().visit(self.parse(text))
        tree.set_environment(self)
        return self.from_string(tree)

    def rendered(self, template: Template, messages: Sequence[Mapping], **variables: Any) -> str:
        """What a template of `compiled` writes for a conversation.

        Raises:
            TooCostlyError: it takes more than it is allowed.
            Exception: any; a template is a program.
        """
        allowance = LEAST_ALLOWANCE + ALLOWANCE_PER_MESSAGE * len(messages)
        characters = sum(len(message["content"]) for message in messages)
        with self._rendering:
            self._left = allowance + ALLOWANCE_PER_CHARACTER * characters
            return template.render(messages=messages, **variables)

    def spend(self, units: int) -> None:
        """Takes units from the allowance, before what costs them is done."""
        self._left -= units
        if self._left < 0:
            raise TooCostlyError("it takes more time or memory than any conversation needs")

    def _sum(self, *values: object) -> int:
        return weight(values, self._left)

    def _product(self, *values: object) -> int:
        product = 1
        for value in values:
            product *= weight(value, self._left)
            if product > self._left:
                break
        return product

    def _each(self, items: Iterable, units: int) -> Iterator:
        for item in items:
            self.spend(units)
            yield item

    def _paid(self, result: Any) -> Any:
        """What a filter or call returns. Its size is known only now, but no larger than a few times
        what was paid."""
        self.spend(size(result))
        return result

    # Operators

    def call_binop(self, context: runtime.Context, sign: str, left: Any, right: Any) -> Any:
        """Numbers are small, and few operators take anything else."""
        whole, times = (right, left) if isinstance(left, int) else (left, right)
        if isinstance(whole, int) and isinstance(times, int):
            powers = left.bit_length() * right if sign == "**" else 0
            if max(left.bit_length(), right.bit_length(), powers) > _BITS:
                raise TooCostlyError(f"a number has more than {_BITS} bits")
        elif sign == "*" and isinstance(whole, _SIZED) and isinstance(times, int):
            self.spend(size(whole) * max(times, 1))
        elif sign == "%" and isinstance(left, str):
            self._pay_percent(left, right)
        elif sign != "+" and isinstance(whole, _SIZED):
            raise SecurityError(f"the operator {sign} takes numbers only")
        self.spend(size(left) + size(right))
        return super().call_binop(context, sign, left, right)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """A key may be a tuple of tuples of …"""
        self.spend(self._sum(argument))
        return super().getitem(obj, argument)

    def _read(self, value: Any) -> Any:
        self.spend(self._sum(value))
        return value

    def _copy(self, value: Any) -> Any:
        self.spend(size(value))
        return value

    def _compare(self, left: Any, *rest: Any) -> Any:
        """`left`, then by turns the name of a comparison and what stands on its right."""
        result: Any = True
        for name, right in zip(rest[::2], rest[1::2], strict=True):
            if name in ("in", "notin"):
                right = self._searched(left, right)
            else:
                self.spend(self._sum(left, right))
            result = _COMPARISONS[name](left, right)
            if not result:
                break
            left = right
        return result

    def _searched(self, value: Any, where: Any) -> Any:
        """Pays for a search; returns where to look."""
        where = self._listed(where) if isinstance(where, Iterator) else where
        if isinstance(where, dict):
            self.spend(self._sum(value))
        else:
            self.spend((self._product if isinstance(where, str) else self._sum)(value, where))
        return where

    # Calls

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether it is known to be needed, and harmless."""
        for kind, names in _METHODS.items():
            if isinstance(obj, kind):
                return attr in names
        known = isinstance(obj, runtime.LoopContext | runtime.Macro | runtime.Namespace)
        return known and super().is_safe_attribute(obj, attr, value)

    def _pay_percent(self, text: Any, *values: Any, **named: Any) -> None:
        self.spend(self._sum(text))
        text = str(text)
        if "%" in _PLAIN_PART.sub("", text):
            raise TooCostlyError("a format has a width, or more than %s and the like")
        self.spend(text.count("%") * self._sum(*values, *named.values()))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` in the sandbox, its fields up to 999 characters wide."""
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        @functools.wraps(formatted)
        def paying(*args: Any, **kwargs: Any) -> str:
            fields = [spec for _, _, spec, _ in string.Formatter().parse(value.__self__) if spec]
            if any("{" in spec or re.search(r"\d{4}", spec) for spec in fields):
                raise TooCostlyError("a field is wider than 999 characters")
            each = 1_000 // _CHARACTERS + self._sum(args, kwargs)
            self.spend(each * (1 + value.__self__.count("{")))
            return formatted(*args, **kwargs)

        return paying

    def call(self, context: runtime.Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Of a macro it is the body that pays."""
        if isinstance(function, runtime.Macro):
            return super().call(context, function, *args, **kwargs)
        # In loops Jinja adds the variables of the loop.
        named = {key: kwargs[key] for key in kwargs if key not in ("_loop_vars", "_block_vars")}
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            if function.__name__ == "join":
                args = tuple(map(self._listed, args))
            self._pay_text(owner, function.__name__, *args, **named)
        elif isinstance(owner, list | tuple):
            self.spend(self._product(owner, *args))
        else:
            self.spend(self._sum(*args, *named.values()))
        return self._paid(super().call(context, function, *args, **kwargs))

    def _pay_text(self, text: str, method: str, *args: Any, **named: Any) -> None:
        if method == "replace":
            self._pay_replace(text, *args)
        else:
            self.spend(self._product(text, *args, *named.values()))
        if method in ("split", "rsplit"):
            self.spend(_most_pieces(text, *args, **named))
        elif method == "splitlines":
            self.spend(len(text))

    def _pay_replace(self, text: Any, old: Any, new: Any, count: int | None = None) -> None:
        self.spend(self._product(text, old) + self._sum(new))
        new = str(new)  # now it is known to be of a size to look at
        self.spend(str(text).count(str(old)) * size(new))

    # Filters and tests

    def _paying_filters(self, own: Mapping[str, Callable]) -> dict[str, Callable]:
        pay = {
            **dict.fromkeys(_READING_FILTERS, self._pay_product),
            **dict.fromkeys(_ITEM_FILTERS, self._pay_items),
            **dict.fromkeys(_LISTING_FILTERS, self._pay_product),
            "format": self._pay_percent,
            "indent": self._pay_indent,
            "replace": self._pay_replace,
        }
        found = {name: self._paying(own[name], pay[name], name in _LISTING_FILTERS) for name in pay}
        found |= {name: self._lazy(own[name]) for name in _LAZY_FILTERS}
        found |= {name: own[name] for name in _FREE_FILTERS} | {"tojson": self._to_json}
        return found | {
            _EACH: self._each,
            _ENTER: self.spend,
            _READ: self._read,
            _COPY: self._copy,
            _COMPARE: self._compare,
        }

    def call_filter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What `map` calls, by any name."""
        if name in _OURS:
            raise SecurityError(f"no filter is named {name!r}")
        return super().call_filter(name, *args, **kwargs)

    def _paying_tests(self, own: Mapping[str, Callable]) -> dict[str, Callable]:
        def pay(*values: Any) -> None:
            self.spend(self._sum(*values))

        def check(*values: Any) -> None:
            if not all(isinstance(value, int | float) for value in values):
                raise TypeError("a test of numbers is given something else")

        found = {name: self._paying(own[name], pay) for name in _READING_TESTS}
        found |= {name: self._paying(own[name], check) for name in _NUMBER_TESTS}
        found |= {name: own[name] for name in _FREE_TESTS}
        return found | {"in": lambda value, where: value in self._searched(value, where)}

    def _paying(self, function: Callable, pay: Callable[..., None], lists: bool = False):
        """lists: whether it makes a list of its value, whatever that is."""
        first = 1 if hasattr(function, "jinja_pass_arg") else 0  # then comes the value

        @functools.wraps(function)  # with the attributes by which Jinja knows what to pass first
        def paying(*args: Any, **named: Any) -> Any:
            before, value, rest = args[:first], args[first], args[first + 1 :]
            value = self._listed(value) if lists else value
            pay(value, *rest, **named)
            return self._paid(function(*before, value, *rest, **named))

        return paying

    def _lazy(self, function: Callable):
        """Of what yields its items one by one."""

        @functools.wraps(function)
        def paying(context: runtime.Context, value: Any, *rest: Any, **named: Any) -> Any:
            self._pay_product(*rest, **named)
            return _Items(self, function(context, value, *rest, **named), value)

        return paying

    def _listed(self, value: Any) -> Any:
        """A text or an iterator as a list."""
        if isinstance(value, str):
            self.spend(len(value))
            return list(value)
        return list(self._each(value, 1)) if isinstance(value, Iterator) else value

    def _pay_product(self, *values: Any, **named: Any) -> None:
        self.spend(self._product(*values, *named.values()))

    def _pay_items(self, value: Any, *rest: Any) -> None:
        self.spend(len(value) if isinstance(value, _SIZED) else 1)

    def _pay_indent(self, text: Any, width: Any = 4, *rest: Any, **named: Any) -> None:
        wide = len(width) if isinstance(width, str) else max(width, 0)
        self.spend((1 + len(text)) * (1 + wide // _CHARACTERS))

    def _to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """As in `transformers`: Jinja's own escapes what is special in HTML."""
        wide = len(indent) if isinstance(indent, str) else indent or 0
        if wide > _CHARACTERS:
            raise TooCostlyError(f"an indentation is wider than {_CHARACTERS} characters")
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        self.spend(self._sum(value))
        return "".join(map(self._copy, encoder.iterencode(value)))


class _Items(Iterator):
    """Items that pay one by one; too many that wait for one another would crash Python."""

    def __init__(self, environment: ChatEnvironment, items: Iterator, source: Any) -> None:
        self._environment, self._items = environment, items
        self._waiting = 1 + (source._waiting if isinstance(source, _Items) else 0)
        if self._waiting > _FILTERS:
            raise TooCostlyError(f"more than {_FILTERS} filters wait for one another")

    def __next__(self) -> Any:
        self._environment.spend(1)
        return next(self._items)


class _Namespace(runtime.Namespace):
    """Jinja's, shown without what is in it: that may be the namespace itself."""

    def __repr__(self) -> str:
        return "<Namespace>"


class _Generation(ext.Extension):
    """`{% generation %}`, by which `transformers` finds answers: writes what is in it."""

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Meter(NodeTransformer):
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
        node.iter = _filter(_EACH, node.iter, nodes.Const(units))
        return node

    def visit_Macro(self, node: nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self._macros += 1
        if self._macros > MAX_NESTED_MACROS:
            raise TemplateAssertionError("macros stand too deep in one another", node.lineno)
        self.generic_visit(node)
        self._macros -= 1
        units = nodes.Const(_cost([*node.body, *node.defaults]), lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(_filter(_ENTER, units), lineno=node.lineno))
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
        return _filter(_COMPARE, node.expr, *rest)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filter(_COPY, node.node)
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
    return node if isinstance(node, nodes.Const | nodes.TemplateData) else _filter(_READ, node)


def _cost(body: Iterable[nodes.Node]) -> int:
    """Nodes in a body, and the size of its texts; what pays by itself is left out."""
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


def _most_pieces(text: str, sep: str | None = None, maxsplit: int = -1) -> int:
    """Into how many pieces a text is split at most."""
    return 1 + (len(text) // 2 if sep is None else text.count(sep))
