"""What is wrong with a configuration, in sentences."""

from __future__ import annotations

from pydantic import ValidationError

from bmi_cdlm.names.errors import shown

MOST_PROBLEMS, LONGEST_REASON = 10, 500
"""How many problems a message names, and how long each may be."""
OF_KEYS = {"forcing_fill", "forcing_fill_limit", "loss", "regularisation", "resnet", "pretrain"}
"""Keys whose values have keys: a problem is one of those."""


def explain(cause: ValidationError) -> str:
    """One sentence per problem: key path, got, expected."""
    sentences = []
    for problem in cause.errors():
        path = problem["loc"][: 2 if OF_KEYS.intersection(problem["loc"][:1]) else 1]
        key = shown(".".join(str(part) for part in path)) or "configuration"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            sentences.append(f"key '{key}' is missing.")
        elif problem["type"] == "value_error":
            sentences.append(f"{key}: {_ended(shown(message, LONGEST_REASON))}")
        else:
            sentences.append(f"{key} is {shown(repr(problem['input']))}: {_ended(shown(message, LONGEST_REASON))}")
    different = list(dict.fromkeys(sentences))
    more = len(different) - MOST_PROBLEMS
    return " ".join(different[:MOST_PROBLEMS]) + (f" And {more} more." if more > 0 else "")


def _ended(sentence: str) -> str:
    """A sentence with its full stop; a hint that ends in a question has its mark."""
    return sentence if sentence.endswith("?") else f"{sentence}."
