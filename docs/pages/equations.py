"""The steps of a process as MathML, read off their source: what is shown is what runs."""

from __future__ import annotations

import ast
import html
import inspect
import textwrap
from collections.abc import Callable, Iterator

OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "−", ast.Lt: "&lt;", ast.LtE: "≤", ast.Gt: "&gt;", ast.GtE: "≥", ast.Eq: "=", ast.NotEq: "≠",
    ast.And: "and", ast.Or: "or", ast.USub: "−",
}
LOOSE, TIGHT, ATOM = 1, 2, 3


def equations(step: Callable) -> str:
    """Return the statements of a step as a block of HTML with an equation a line."""
    function = ast.parse(textwrap.dedent(inspect.getsource(step))).body[0]
    assert isinstance(function, ast.FunctionDef)
    rows = "".join(f'<math display="block"><mrow>{row}</mrow></math>' for row in statements(function.body))
    return f'```{{raw}} html\n<div class="equations">{rows}</div>\n```'


def statements(body: list[ast.stmt], where: str = "") -> Iterator[str]:
    """One row per assignment and per returned value; what holds under a condition says so."""
    for one in body:
        if isinstance(one, ast.Assign):
            yield from assignment(one.targets[0], one.value, where)
        elif isinstance(one, ast.Return) and one.value is not None:
            yield f"<mtext>give&#160;</mtext>{comma(one.value)}{where}"
        elif isinstance(one, ast.If):
            condition = expression(one.test)[0]
            yield from statements(one.body, f"{where}<mtext>&#8195;if&#160;</mtext>{condition}")
            yield from statements(one.orelse, f"{where}<mtext>&#8195;otherwise</mtext>")


def assignment(target: ast.expr, value: ast.expr, where: str) -> Iterator[str]:
    """`a, b = c, d` is two rows."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, given in zip(target.elts, value.elts, strict=True):
            yield from assignment(one, given, where)
        return
    yield f"{comma(target)}<mo>←</mo>{expression(value)[0]}{where}"


def comma(node: ast.expr) -> str:
    """Values beside each other."""
    several = node.elts if isinstance(node, ast.Tuple) else [node]
    return "<mo>,</mo>".join(expression(one)[0] for one in several)


def expression(node: ast.expr) -> tuple[str, int]:
    """MathML of an expression, and how tightly it holds together."""
    if isinstance(node, ast.Name):
        return name(node.id), ATOM
    if isinstance(node, ast.Constant):
        return f"<mn>{node.value:g}</mn>" if not isinstance(node.value, bool) else f"<mi>{node.value}</mi>", ATOM
    if isinstance(node, ast.BinOp):
        return binary(node)
    if isinstance(node, ast.UnaryOp):
        sign = "<mtext>not&#160;</mtext>" if isinstance(node.op, ast.Not) else "<mo>−</mo>"
        return f"{sign}{held(node.operand, TIGHT)}", TIGHT
    if isinstance(node, ast.IfExp):
        return choice(node), ATOM
    if isinstance(node, ast.Compare):
        parts = [expression(node.left)[0]]
        for operator, right in zip(node.ops, node.comparators, strict=True):
            parts += [f"<mo>{OPERATORS[type(operator)]}</mo>", expression(right)[0]]
        return "".join(parts), LOOSE
    if isinstance(node, ast.BoolOp):
        word = f"<mtext>&#160;{OPERATORS[type(node.op)]}&#160;</mtext>"
        return word.join(expression(one)[0] for one in node.values), LOOSE
    if isinstance(node, ast.Call):
        return call(node), ATOM
    if isinstance(node, ast.Subscript):
        return f"<msub><mrow>{expression(node.value)[0]}</mrow><mrow>{comma(node.slice)}</mrow></msub>", ATOM
    return f"<mtext>{html.escape(ast.unparse(node))}</mtext>", LOOSE


def held(node: ast.expr, least: int) -> str:
    """An expression, in brackets where it would fall apart."""
    text, tightness = expression(node)
    return text if tightness >= least else f"<mo>(</mo>{text}<mo>)</mo>"


def binary(node: ast.BinOp) -> tuple[str, int]:
    """Sums, products, quotients and powers."""
    if isinstance(node.op, ast.Div):
        return (
            f"<mfrac><mrow>{expression(node.left)[0]}</mrow><mrow>{expression(node.right)[0]}</mrow></mfrac>", ATOM
        )
    if isinstance(node.op, ast.Pow):
        return f"<msup><mrow>{held(node.left, ATOM)}</mrow><mrow>{expression(node.right)[0]}</mrow></msup>", ATOM
    if type(node.op) not in (ast.Mult, *OPERATORS):
        return f"<mtext>{html.escape(ast.unparse(node))}</mtext>", LOOSE
    if isinstance(node.op, ast.Mult):
        return f"{held(node.left, TIGHT)}<mo>&#8901;</mo>{held(node.right, TIGHT)}", TIGHT
    right = held(node.right, TIGHT if isinstance(node.op, ast.Sub) else LOOSE)
    return f"{held(node.left, LOOSE)}<mo>{OPERATORS[type(node.op)]}</mo>{right}", LOOSE


def choice(node: ast.IfExp) -> str:
    """`a if condition else b` as two cases."""
    when = f"<mtext>if&#160;</mtext>{expression(node.test)[0]}"
    rows = [(node.body, when), (node.orelse, "<mtext>otherwise</mtext>")]
    cells = "".join(f"<mtr><mtd>{expression(value)[0]}</mtd><mtd>{when}</mtd></mtr>" for value, when in rows)
    return f'<mrow><mo>{{</mo><mtable columnalign="left left">{cells}</mtable></mrow>'


def call(node: ast.Call) -> str:
    """Functions: roots, magnitudes, exponentials, products with a sum, and others by name."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "f")
    given = [expression(one)[0] for one in node.args]
    if called == "sqrt":
        return f"<msqrt><mrow>{given[0]}</mrow></msqrt>"
    if called == "abs":
        return f"<mo>|</mo>{given[0]}<mo>|</mo>"
    if called == "exp":
        return f"<msup><mi>e</mi><mrow>{given[0]}</mrow></msup>"
    if called == "power":
        return f"<msup><mrow>{held(node.args[0], ATOM)}</mrow><mrow>{given[1]}</mrow></msup>"
    if called == "fma":
        first, second = (held(one, TIGHT) for one in node.args[:2])
        return f"<mo>(</mo>{first}<mo>&#8901;</mo>{second}<mo>+</mo>{given[2]}<mo>)</mo>"
    return f"{name(called)}<mo>(</mo>{'<mo>,</mo>'.join(given)}<mo>)</mo>"


def name(text: str) -> str:
    """A symbol: X1 has an index, a word stays one."""
    if len(text) in (2, 3) and text[0].isalpha() and text[1:].isdigit():
        return f"<msub><mi>{text[0]}</mi><mn>{text[1:]}</mn></msub>"
    return f"<mi>{html.escape(text.replace('_', ' '))}</mi>" if len(text) == 1 else (
        f'<mi mathvariant="normal">{html.escape(text)}</mi>'
    )
