"""Every error that the code raises, by what it is of: found by its words."""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bmi_cdlm.names import errors

ROOT = Path(__file__).resolve().parents[2]
OTHERS = {
    "UsageError": "Options and arguments of a command that do not go together, or that are none.",
    "ClickException": "A command ends without what it was asked for.",
    "ValueError": "A value in a configuration, on a command line or in a call; the error that is shown puts the key or "
    "the option before it.",
    "TrainingError": "A training cannot go on, or a training state cannot be used.",
    "BmiValueError": "An argument of a BMI function that is none.",
    "UnreadableError": "A file that a library cannot open.",
}
HEAD = """# Errors

Every error of bmi_cdlm is one message: what is wrong, where, what was found, what was expected, and what to do. A
command shows it after `Error:`; in Python it is an exception of a class below, all of them
`bmi_cdlm.names.errors.CdlmError`. A part in angle brackets ‹ › stands for what is put in. Paste a message here,
or search the site for its words.

```{raw} html
<p><input id="find-message" type="search" placeholder="Paste a message" aria-label="Paste a message"></p>
<p id="found-message" aria-live="polite"></p>
<script>
document.getElementById("find-message").addEventListener("input", (event) => {
  const words = (text) => new Set(text.toLowerCase().match(/[a-z_-]{3,}/g) || []);
  const asked = words(event.target.value);
  let best = null, most = 0.35;
  for (const item of document.querySelectorAll("article li")) {
    item.classList.remove("found");
    const own = words(item.textContent);
    let common = 0;
    for (const word of own) if (asked.has(word)) common += 1;
    const alike = own.size ? common / own.size * Math.min(1, own.size / 6) + 0.02 * common : 0;
    if (alike > most) { most = alike; best = item; }
  }
  document.getElementById("found-message").textContent = best || !asked.size ? "" : "No message is like this one.";
  if (best) { best.classList.add("found"); best.scrollIntoView({ block: "center" }); }
});
</script>
```

## Exit codes

| code | of a command |
|---|---|
| 0 | it did what was asked |
| 1 | an error of those below; problems that `cdlm doctor` found; a balance that does not close; `Aborted!` by Ctrl-C |
| 2 | an option or argument that is none, or that does not go with another |
"""


class Site(NamedTuple):
    """A place that raises: class, text, module."""

    kind: str
    text: str
    module: str


def error_page() -> tuple[str, str]:
    """The page of all errors."""
    by_kind: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for site in sites():
        told = by_kind[site.kind][site.module]
        if site.text not in told:
            told.append(site.text)
    lines = [HEAD]
    for kind in sorted(by_kind, key=lambda name: (name in OTHERS, name)):
        lines += ["", f"## {kind}", "", meaning(kind), ""]
        for module, texts in sorted(by_kind[kind].items()):
            lines += [f"### {module}", "", *(f"- {escaped(text)}" for text in texts), ""]
    return "reference/errors", "\n".join(lines)


def meaning(kind: str) -> str:
    """What a class of errors says of itself."""
    found = getattr(errors, kind, None)
    return inspect.getdoc(found) or "" if found is not None else OTHERS[kind]


def sites() -> Iterator[Site]:
    """All places that raise an error with a text of their own."""
    own = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
    for root in (ROOT / "bmi_cdlm", ROOT / "training" / "cdlm_training"):
        for path in sorted(root.rglob("*.py")):
            module = ".".join(path.relative_to(root.parent).with_suffix("").parts)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                    continue
                called = node.exc.func
                name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                text = template(node.exc.args[0]) if node.exc.args else ""
                if name in own | set(OTHERS) and any(c.isalpha() for c in text.split("›")[-1] + text.split("‹")[0]):
                    yield Site(name, text, module)


def template(node: ast.expr) -> str:
    """The text of a message, with what is put in between angle brackets."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    inner = node.value if isinstance(node, ast.FormattedValue) else node
    names = [one.id for one in ast.walk(inner) if isinstance(one, ast.Name)]
    names = [one.attr for one in ast.walk(inner) if isinstance(one, ast.Attribute)][:1] or names
    return f"‹{names[0] if names else 'value'}›"


def escaped(text: str) -> str:
    """A message as Markdown that shows it letter by letter."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()#+-.!|<>~$" else c for c in " ".join(text.split()))
