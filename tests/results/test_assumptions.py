"""What digests of code rely on: the package does nothing that they can't follow, see `harness.results.code`."""

import ast
from collections.abc import Iterator

import pytest

from harness.data.sets import HOMES as DATA_HOMES
from harness.data.sets import SOURCES
from harness.lottery.branches import BRANCHES
from harness.lottery.criteria import CRITERIA
from harness.networks.architectures import HOMES, NETWORKS
from harness.results.code import PACKAGE
from harness.results.exemptions import unreached
from harness.results.reach import Package
from harness.results.syntax import is_silent

#: decorators from elsewhere, none of which makes what it decorates known to others
DECORATORS = {
    *("dataclass", "property", "cached_property", "staticmethod", "classmethod", "model_validator"),
    *("cache", "lru_cache", "contextmanager", "contextlib.contextmanager", "torch.no_grad"),
}
#: modules that set what the whole process computes with, or where: those that train and those that measure speed, and
#: the scheduler's, which choose a device and an image
PROCESS_WIDE = {
    *("harness.training.loop", "harness.training.device", "harness.bench.jobs", "harness.bench.run"),
    *("harness.base.devices", "harness.workflow.image", "harness.workflow.reproduce"),
}


@pytest.fixture(scope="module")
def package():
    return Package(PACKAGE)


def definitions(package) -> Iterator[tuple[str, str, ast.stmt]]:
    """Module, name and statement of each definition."""
    for name in package.files:
        for definition, statements in package.module(name).definitions.items():
            for statement in statements:
                yield name, definition, statement


def classes(package) -> Iterator[tuple[str, ast.ClassDef]]:
    for module, _, statement in definitions(package):
        for node in ast.walk(statement):
            if isinstance(node, ast.ClassDef):
                yield module, node


def unused_calls(package) -> set[str]:
    """Assignments at the top level that call something, and that nothing in the package reads."""
    read = {target for name in package.files for target in package.reaches(f"{name}:")}
    for module, name, _ in definitions(package):
        read |= package.reaches(f"{module}:{name}") - {f"{module}:{name}"}
    return {
        f"{module}:{name}"
        for module, name, statement in definitions(package)
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        and any(isinstance(node, ast.Call) for node in ast.walk(statement))
        and f"{module}:{name}" not in read
    }


def test_an_assignment_that_calls_something_is_read_somewhere(package):
    """Otherwise the call could be there for what it does, and no digest would have it."""
    looked_up = {f"{home}:NETWORKS" for home in HOMES.values()} | {f"{home}:SOURCES" for home in DATA_HOMES.values()}
    looked_up |= {f"harness.lottery.branches.{name}:BRANCH" for name in BRANCHES}
    looked_up |= {f"harness.lottery.criteria.{name}:CRITERION" for name in CRITERIA}
    assert unused_calls(package) - looked_up == set()


def test_class_bodies_only_define(package):
    allowed = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign | ast.Pass
    for module, definition in classes(package):
        others = [node for node in definition.body if not isinstance(node, allowed) and not is_silent(node)]
        assert not others, f"{module}: {definition.name}, line {others[0].lineno}"


def test_no_decorator_from_elsewhere_registers_what_it_decorates(package):
    for module in package.files:
        for node in ast.walk(ast.parse(package.files[module].read_text())):
            for decorator in getattr(node, "decorator_list", ()):
                call = decorator.func if isinstance(decorator, ast.Call) else decorator
                text = ast.unparse(call)
                own = text.partition(".")[0] in {*package.module(module).definitions, *package.module(module).imported}
                ours = own and any(":" in target for target in package.named(module, text.partition(".")[0]))
                assert ours or text in DECORATORS, f"{module}: @{text}, line {node.lineno}"


def sets_the_process(tree: ast.AST) -> bool:
    """Whether code sets PyTorch's or NumPy's global state, or the environment."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.startswith(("torch.set_", "torch.manual_seed", "torch.use_", "np.seterr", "np.random.seed")):
                return True
            if called in ("os.environ.setdefault", "os.environ.update", "os.putenv", "random.seed"):
                return True
        if isinstance(node, ast.Assign | ast.AugAssign):
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                if ast.unparse(target).startswith(("torch.", "os.environ[", "np.")):
                    return True
    return False


def test_what_sets_the_whole_process_is_in_a_digest_or_changes_no_number(package):
    found = {name for name, path in package.files.items() if sets_the_process(ast.parse(path.read_text()))}
    assert found == PROCESS_WIDE
    assert found - {*unreached(package.files)} == {"harness.training.loop", "harness.training.device"}


@pytest.mark.parametrize("text", ["torch.set_flush_denormal(True)", "os.environ['OMP'] = '1'", "torch.x.y = z = 1"])
def test_state_of_the_process_is_seen(text):
    assert sets_the_process(ast.parse(f"def f():\n    {text}"))
    assert not sets_the_process(ast.parse("def f():\n    x = torch.tensor(1)\n    x[0] = os.environ['A']"))


def test_a_registrys_entry_is_what_the_file_of_that_name_defines():
    """A digest names the file; a registry that gave another object would be outside of it."""

    def defined(module: str, attribute: str):
        return getattr(__import__(module, fromlist=[attribute]), attribute)

    for name, branch in BRANCHES.items():
        assert branch is defined(f"harness.lottery.branches.{name}", "BRANCH")
    for name, criterion in CRITERIA.items():
        assert criterion is defined(f"harness.lottery.criteria.{name}", "CRITERION")
    for name, network in NETWORKS.items():
        assert network is defined(HOMES[name], "NETWORKS")[name]
    for name, source in SOURCES.items():
        assert source is defined(DATA_HOMES[name], "SOURCES")[name]
