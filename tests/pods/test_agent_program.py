"""The agent as it is sent."""

import ast

import pytest

from pi_cli.pods import agent_program, bare_source


class _Bare(ast.NodeTransformer):
    """Removes docstrings, types of parameters and results, and imports for types."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return ast.Assign([node.target], node.value, lineno=0) if node.value else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        self.generic_visit(node)
        assert all(isinstance(item, ast.Assign | ast.AnnAssign) for item in node.body[: len(fields)])
        node.body[: len(fields)] = fields  # their types stay
        return as_sent(node, fields) if any(isinstance(base, ast.Name) for base in node.bases) else node

    def visit_If(self, node: ast.If) -> ast.If | None:
        self.generic_visit(node)
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if node.module in ("typing", "collections") else node


def as_sent(node: ast.ClassDef, fields: list[ast.AnnAssign]) -> ast.ClassDef:
    """Return a `NamedTuple` as the tuple of `collections` that it is sent as; another class as it is."""
    if [base.id for base in node.bases if isinstance(base, ast.Name)] != ["NamedTuple"]:
        return node
    names = " ".join(field.target.id for field in fields if isinstance(field.target, ast.Name))
    defaults = "".join(f"{ast.unparse(field.value)}," for field in fields if field.value)
    text = f"class {node.name}(namedtuple('{node.name}', '{names}', defaults=({defaults}))):\n __slots__ = ()"
    [sent] = ast.parse(text).body
    assert isinstance(sent, ast.ClassDef)
    sent.body += node.body[len(fields) :]
    return sent


def meaning(module: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(module)))


@pytest.mark.parametrize("name", [name for name in agent_program.MODULES if agent_program.source(name)])
def test_it_is_sent_without_docstrings_comments_and_types_and_does_the_same(name: str) -> None:
    whole = agent_program.source(name)
    bare = bare_source.bare(whole)
    assert meaning(bare) == meaning(whole)
    assert len(bare) < len(whole)


def needed_by(operation: str) -> set[str]:
    """Return the modules that an operation imports, also inside functions."""
    needed: set[str] = set()
    nodes = ast.walk(ast.parse(agent_program.source("agent.main")))
    [function] = [node for node in nodes if is_called(node, operation)]
    pending = [*imported("agent.main", at_once=True), *imported("agent.main", inside=function)]
    while pending:
        module = pending.pop()
        if module not in needed:
            needed.add(module)
            pending += imported(module)
    packages = {name for name in agent_program.PACKAGES if any(module.startswith(f"{name}.") for module in needed)}
    return {"agent.main", *packages, *needed}


def is_called(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == name


def imported(module: str, *, at_once: bool = False, inside: ast.AST | None = None) -> list[str]:
    """Return the agent's modules that a module imports, without those imported for types."""
    tree = inside or ast.parse(agent_program.source(module))
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    nodes = list(ast.iter_child_nodes(tree) if at_once else ast.walk(tree))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agent")]
    names = [(node.module or "", f"{node.module}.{alias.name}") for node in froms for alias in node.names]
    return [full if full in agent_program.MODULES else module for module, full in names]


# A start without a lease has nothing to do with leases, and an inspection does not report them.
LEASES = {"agent.leases", "agent.lease_ends", "agent.lease_watchers"}
WITHOUT_LEASES = ("start", "inspect")


@pytest.mark.parametrize(
    "operation",
    [
        "start",
        "attach",
        "survey",
        "inspect",
        "stop",
        "holders",
        "logs",
        "store",
        "purge",
        "lease",
        "clean",
        "launches",
        "bench",
    ],
)
def test_exactly_the_modules_that_an_operation_needs_are_sent(operation: str) -> None:
    sent = {name for name, needing in agent_program.MODULES.items() if needing is None or operation in needing}
    reached = needed_by(operation)
    assert sent == (reached - LEASES if operation in WITHOUT_LEASES else reached)


def test_a_start_with_a_lease_gets_what_it_needs_and_the_watcher_has_exactly_its_modules() -> None:
    leased = {name for name, needing in agent_program.MODULES.items() if agent_program.LEASED_START in (needing or ())}
    assert {"agent.leases", "agent.lease_watchers"} == leased == needed_by("start") & LEASES
    needed, pending = set(), ["agent.lease_watch"]
    while pending:
        module = pending.pop()
        if module not in needed:
            needed.add(module)
            pending += imported(module)
    assert needed == set(agent_program.OF_WATCHERS) - {"agent"}


def test_a_sixth_of_the_source_is_not_sent() -> None:
    whole = [agent_program.source(name) for name in agent_program.MODULES]
    assert sum(map(len, map(bare_source.bare, whole))) < 0.84 * sum(map(len, whole))
