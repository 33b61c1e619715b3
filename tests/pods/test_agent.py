"""The agent as it travels."""

import ast

import pytest

from pi_cli.pods import agent
from pi_cli.store import paths


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def meaning(module: str) -> str:
    return ast.dump(_WithoutDocstrings().visit(ast.parse(module)))


@pytest.mark.parametrize("name", agent.MODULES)
def test_it_travels_without_what_is_for_people_and_does_the_same(name: str) -> None:
    whole = paths.asset(f"remote/{name}.py").read_text(encoding="utf-8")
    bare = agent.bare(whole)
    assert meaning(bare) == meaning(whole)
    assert len(bare) < len(whole)


def test_a_sixth_of_what_would_travel_stays_here() -> None:
    whole = [paths.asset(f"remote/{name}.py").read_text(encoding="utf-8") for name in agent.MODULES]
    assert sum(map(len, map(agent.bare, whole))) < 0.84 * sum(map(len, whole))
