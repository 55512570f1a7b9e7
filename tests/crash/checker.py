"""The rules that must hold when all is over. Each compares our rows with what Daily saw or callers were told."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.crash import followed, obeyed, told, truth, undone
from tests.crash.facts import Facts, Rule

WHILE_OPEN = obeyed.RULES | {"told otherwise": followed.RULES["told otherwise"]}
"""For while classes go on."""
RULES = undone.RULES | truth.RULES | told.RULES | followed.RULES


@dataclass(frozen=True)
class Violation:
    rule: str
    subject: str
    """The room's name, or whatever it is about."""
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.detail}"


def check(facts: Facts, rules: Mapping[str, Rule] = RULES) -> list[Violation]:
    return [Violation(name, *found) for name, rule in rules.items() for found in rule(facts)]
