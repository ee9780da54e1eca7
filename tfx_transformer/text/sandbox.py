"""Chat templates from anywhere, in Jinja's sandbox and with an allowance.

Jinja's own sandbox keeps a template from private attributes, from changing its arguments, and from
a `range` of more than 100,000. It does not bound the cost of a template: loops may be nested, a
text doubles in each round, `'%999999999d' % 1` is one operation. So here every operation pays
before it is done, in units of about a microsecond and 32 characters. The allowance grows with the
conversation; a template that has spent it is refused. One count bounds time and memory alike.

- Each round of a loop, and each call of a macro, costs the number of nodes in its body.
- Operations that read or copy values cost their size: operators, comparisons, output, calls,
  filters.
- Operations that multiply (`*`, `replace`, `join`, `indent`, a search in a text) cost the product.

For this `metering` rewrites the parsed template: around iterables, operands and outputs it puts
filters that pay, under names that no template can write. Statements, filters, tests, methods and
global names that no chat template needs do not exist here, nor do those that Jinja adds later. All
else is exactly as in `transformers`.
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
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tfx_transformer.text import metering
from tfx_transformer.text.messages import message_texts
from tfx_transformer.text.metering import CHARACTERS, CONTAINERS, name_set, size

# The templates of real models spend less than a tenth of it; a test checks that.
LEAST_ALLOWANCE = 300_000
ALLOWANCE_PER_MESSAGE = 5_000
ALLOWANCE_PER_CHARACTER = 2

_BITS = 64  # of numbers in calculations
_LEVELS = 100  # of lists in lists
_FILTERS = 20  # that wait for one another's items

# Methods by the type of the value. Of other types, only loops, macros and namespaces have
# attributes.
_METHODS = {
    str: name_set(
        "capitalize casefold count endswith find format format_map index isalnum isalpha isascii "
        "isdecimal isdigit islower isnumeric isspace istitle isupper join lower lstrip partition "
        "removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines "
        "startswith strip swapcase title upper"
    ),
    dict: name_set("copy get items keys values"),
    list: name_set("copy count index"),
    tuple: name_set("count index"),
}
# Filters that only look at a value, or pass it on, cost no more than their node.
_FREE_FILTERS = name_set("count d default first items last length")
_FREE_TESTS = name_set(
    "boolean callable defined escaped false float integer iterable mapping none number sameas "
    "sequence string true undefined"
)
_READING_FILTERS = name_set(
    "abs capitalize dictsort e escape float int lower safe string trim upper"
)
_READING_TESTS = name_set(
    "!= < <= == > >= eq equalto ge greaterthan gt le lessthan lower lt ne upper"
)
_NUMBER_TESTS = name_set("divisibleby even odd")
_ITEM_FILTERS = name_set("list reverse title")  # of a text they see every character
_LISTING_FILTERS = name_set("join max min sort unique")  # make a list first, also of a text
_LAZY_FILTERS = name_set("map reject rejectattr select selectattr")  # pay for each item

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

_SIZED = (str, *CONTAINERS)
# A part of a `%` format that is as wide as its value.
_PLAIN_PART = re.compile(r"%(\(\w+\))?[%dfrs]")


class TooCostlyError(SecurityError):
    """A template asks for more than its allowance."""


def weight(value: object, most: int) -> int:
    """Return the cost of reading a value and all that it holds, as often as it holds it.

    Counting stops soon after `most`: a list that holds one list twice, which holds one twice, … has
    no practical end. Too deep a value is refused, since Python's `hash` would crash.
    """
    total, level = 0, [value]
    for _ in range(_LEVELS):
        inner: list[object] = []
        for value in level:
            total += size(value)
            if total > most:
                return total
            if isinstance(value, CONTAINERS):
                inner.extend(value)
                inner.extend(value.values() if isinstance(value, dict) else ())
        if not inner:
            return total
        level = inner
    raise TooCostlyError(f"a value is nested more than {_LEVELS} levels deep")


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
            optimized=False,  # operations done while compiling would not pay
            extensions=[ext.loopcontrols, _Generation],
        )
        self._left = 0
        self._rendering = threading.Lock()  # the allowance is for one rendering
        self.globals = {"range": self.globals["range"], "dict": dict, "namespace": _Namespace}
        self.globals |= names
        self.filters = self._paying_filters(self.filters)
        self.tests = self._paying_tests(self.tests)

    def compile_template(self, text: str) -> Template:
        """Return a template that pays for its operations.

        Raises:
            TemplateSyntaxError: it is not a template, or uses something no chat template needs.
        """
        tree = metering.Meter().visit(self.parse(text))
        tree.set_environment(self)
        return self.from_string(tree)

    def render_template(
        self, template: Template, messages: Sequence[Mapping], **variables: Any
    ) -> str:
        """Return the text that a template of `compile_template` writes for a conversation.

        Raises:
            TooCostlyError: it takes more than it is allowed.
            Exception: any; a template is a program.
        """
        allowance = LEAST_ALLOWANCE + ALLOWANCE_PER_MESSAGE * len(messages)
        characters = sum(len(text) for message in messages for text in message_texts(message))
        with self._rendering:
            self._left = allowance + ALLOWANCE_PER_CHARACTER * characters
            return template.render(messages=messages, **variables)

    def spend(self, units: int) -> None:
        """Take units from the allowance, before the operation that costs them."""
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

    def _pay_result(self, result: Any) -> Any:
        """Pay for the result of a filter or call, and return it. Its size is known only now, but is
        at most a few times what was paid."""
        self.spend(size(result))
        return result

    # Operators

    def call_binop(self, context: runtime.Context, sign: str, left: Any, right: Any) -> Any:
        """Pay for an operator, and apply it. Numbers above 64 bits are refused, and so are texts
        and lists with other operators than `+`, `*` and, for a format, `%`."""
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
        """Pay for the key, which may be a tuple of tuples of …, and look it up."""
        self.spend(self._sum(argument))
        return super().getitem(obj, argument)

    def _read(self, value: Any) -> Any:
        self.spend(self._sum(value))
        return value

    def _copy(self, value: Any) -> Any:
        self.spend(size(value))
        return value

    def _compare(self, left: Any, *rest: Any) -> Any:
        """Return the result of a chain of comparisons; rest: by turns a name and a right side."""
        result: Any = True
        for name, right in zip(rest[::2], rest[1::2], strict=True):
            if name in ("in", "notin"):
                right = self._pay_search(left, right)
            else:
                self.spend(self._sum(left, right))
            result = _COMPARISONS[name](left, right)
            if not result:
                break
            left = right
        return result

    def _pay_search(self, value: Any, where: Any) -> Any:
        """Pay for a search, and return the value to search in."""
        where = self._to_list(where) if isinstance(where, Iterator) else where
        if isinstance(where, dict):
            self.spend(self._sum(value))
        else:
            self.spend((self._product if isinstance(where, str) else self._sum)(value, where))
        return where

    # Calls

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return True if the attribute is known to be needed and harmless."""
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
            each = 1_000 // CHARACTERS + self._sum(args, kwargs)
            self.spend(each * (1 + value.__self__.count("{")))
            return formatted(*args, **kwargs)

        return paying

    def call(self, context: runtime.Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function after paying for it; the body of a macro pays by itself."""
        if isinstance(function, runtime.Macro):
            return super().call(context, function, *args, **kwargs)
        # In loops Jinja adds the variables of the loop.
        named = {key: kwargs[key] for key in kwargs if key not in ("_loop_vars", "_block_vars")}
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            if function.__name__ == "join":
                args = tuple(map(self._to_list, args))
            self._pay_text(owner, function.__name__, *args, **named)
        elif isinstance(owner, list | tuple):
            self.spend(self._product(owner, *args))
        else:
            self.spend(self._sum(*args, *named.values()))
        return self._pay_result(super().call(context, function, *args, **kwargs))

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
        new = str(new)  # its size has been paid for by now
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
            metering.EACH: self._each,
            metering.ENTER: self.spend,
            metering.READ: self._read,
            metering.COPY: self._copy,
            metering.COMPARE: self._compare,
        }

    def call_filter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a filter by name, as `map` does."""
        if name in metering.FILTERS:
            raise SecurityError(f"no filter is named {name!r}")
        return super().call_filter(name, *args, **kwargs)

    def _paying_tests(self, own: Mapping[str, Callable]) -> dict[str, Callable]:
        def pay(*values: Any) -> None:
            self.spend(self._sum(*values))

        def check(*values: Any) -> None:
            if not all(isinstance(value, int | float) for value in values):
                raise TypeError("a test of numbers got another value")

        found = {name: self._paying(own[name], pay) for name in _READING_TESTS}
        found |= {name: self._paying(own[name], check) for name in _NUMBER_TESTS}
        found |= {name: own[name] for name in _FREE_TESTS}
        return found | {"in": lambda value, where: value in self._pay_search(value, where)}

    def _paying(self, function: Callable, pay: Callable[..., None], lists: bool = False):
        """Return a function that pays first; lists: True if it makes a list of any value."""
        first = 1 if hasattr(function, "jinja_pass_arg") else 0  # then comes the value

        @functools.wraps(function)  # keeps the attributes that tell Jinja the first argument
        def paying(*args: Any, **named: Any) -> Any:
            before, value, rest = args[:first], args[first], args[first + 1 :]
            value = self._to_list(value) if lists else value
            pay(value, *rest, **named)
            return self._pay_result(function(*before, value, *rest, **named))

        return paying

    def _lazy(self, function: Callable):
        """Return a filter that yields its items one by one; each pays."""

        @functools.wraps(function)
        def paying(context: runtime.Context, value: Any, *rest: Any, **named: Any) -> Any:
            self._pay_product(*rest, **named)
            return _Items(self, function(context, value, *rest, **named), value)

        return paying

    def _to_list(self, value: Any) -> Any:
        """Return a text or an iterator as a list."""
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
        self.spend((1 + len(text)) * (1 + wide // CHARACTERS))

    def _to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """The `tojson` of `transformers`; Jinja's own escapes characters for HTML."""
        wide = len(indent) if isinstance(indent, str) else indent or 0
        if wide > CHARACTERS:
            raise TooCostlyError(f"an indentation is wider than {CHARACTERS} characters")
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        self.spend(self._sum(value))
        return "".join(map(self._copy, encoder.iterencode(value)))


class _Items(Iterator):
    """Items that pay one by one; too many iterators waiting for each other would crash Python."""

    def __init__(self, environment: ChatEnvironment, items: Iterator, source: Any) -> None:
        self._environment, self._items = environment, items
        self._waiting = 1 + (source._waiting if isinstance(source, _Items) else 0)
        if self._waiting > _FILTERS:
            raise TooCostlyError(f"more than {_FILTERS} filters wait for one another")

    def __next__(self) -> Any:
        self._environment.spend(1)
        return next(self._items)


class _Namespace(runtime.Namespace):
    """Jinja's namespace, shown without its content, which may be the namespace itself."""

    def __repr__(self) -> str:
        return "<Namespace>"


class _Generation(ext.Extension):
    """`{% generation %}`, by which `transformers` finds answers; it writes its content."""

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _most_pieces(text: str, sep: str | None = None, maxsplit: int = -1) -> int:
    """Return the most pieces that a text can be split into."""
    return 1 + (len(text) // 2 if sep is None else text.count(sep))
