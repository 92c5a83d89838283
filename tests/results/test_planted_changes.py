"""Digests of the real package: small changes planted in a copy are noticed by each stage whose results they can change.

Which stages those are is found by running them under a profiler, see `tests.results.execution`, and not by the reading
of the code that is tested here.
"""

import ast
import random
import re
import shutil
from pathlib import Path

import pytest

from harness import report
from harness.data.sets import HOMES as DATA_HOMES
from harness.lottery.criteria import CRITERIA
from harness.networks.architectures import HOMES
from harness.plan.kinds import KINDS
from harness.plan.runs import stacks, stages
from harness.results.code import PACKAGE, _digest, code_digest, reached
from harness.results.context import Context
from harness.results.exemptions import ALL, EXEMPT, UNREACHED, exempt, unreached
from harness.results.folders import Folders
from harness.results.keys import prepare_entries
from harness.results.reach import Package
from tests.results.execution import executed, names_of
from tests.tiny import tiny_spec

TRAINING = {"dense", "orders", "levels", "branches"}
COMPUTING = TRAINING | {"stability", "tickets"}  # the last two have the keys of their runs in their digests
OWN = [kind for kind in KINDS if kind not in TRAINING]
SETS = ("digits", "mnist1d")
SMALL = {"replicates": 1, "replicates_per_job": 1, "dense_orders": [5]}
LENET = tiny_spec(
    **SMALL,
    change={"steps": 12, "batch_size": 200},
    sweeps=[
        {
            "k": [5],
            "levels": 2,
            "at": {
                1: {"snip": 1, "snip_shuffled": 1, "fine_tune": 1, "lr_rewind": 1, "set": 1, "dsr": 1},
                2: {
                    "imp": 2,
                    "random_prune": 1,
                    "random_reinit": 1,
                    "scratch_b": 1,
                    "keep_signs": 1,
                    "gradual": 1,
                    "rigl": 1,
                },
            },
        }
    ],
)
RESNET = tiny_spec(
    **SMALL, change={"steps": 6, "optimizer": "momentum"}, network="resnet8-1d", data="mnist1d", sweeps=[]
)

Entries = tuple[tuple[str, ...], tuple[str, ...]]  # of a digest: where it begins, and what it leaves out


def entries_by_kind() -> dict[str, set[Entries]]:
    """What the digests of each kind of stage are made of at the two scales: its own code, and its runs' keys."""
    found: dict[str, set[Entries]] = {kind: set() for kind in KINDS}
    for kind in OWN:
        for entries in [prepare_entries(name) for name in SETS] if kind == "prepare" else [(KINDS[kind].compute,)]:
            found[kind].add((entries, tuple(exempt(kind))))
    for spec in (LENET, RESNET):
        context = Context(spec, Folders(None), "lenet")
        for stage in stages(spec):
            for run in (run for stack in stacks(spec, stage) for run in stack):
                for kind in (stage.kind, "stability", "tickets"):
                    found[kind].add((context._entries(run), tuple(exempt("dense"))))
    return found


ENTRIES = entries_by_kind()


def digests(package: Package) -> dict[str, set[str]]:
    """The digests of the code of each kind of stage."""
    single = {entries: _digest(package, *entries) for entries in set().union(*ENTRIES.values())}
    return {kind: {single[entries] for entries in parts} for kind, parts in ENTRIES.items()}


def changed(before: dict[str, set[str]], package: Package) -> set[str]:
    after = digests(package)
    return {kind for kind in KINDS if after[kind] != before[kind]}


class Edited(Package):
    """A package of which one module was edited since it was read before: the others are not read again."""

    def __init__(self, before: Package, module: str):
        super().__init__(before.root)
        self._modules = {name: other for name, other in before._modules.items() if name != module}
        self._definitions = {key: read for key, read in before._definitions.items() if key.partition(":")[0] != module}


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """The definitions that each kind of stage executes: of LeNet with every branch, and of a small ResNet."""
    small = executed(RESNET, Folders(tmp_path_factory.mktemp("resnet")), whole=False)
    return {
        kind: names | small[kind] for kind, names in executed(LENET, Folders(tmp_path_factory.mktemp("lenet"))).items()
    }


@pytest.fixture(scope="module")
def reachable():
    return {kind: set().union(*(reached(start, exempt=out) for start, out in parts)) for kind, parts in ENTRIES.items()}


def copied(folder):
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return folder / PACKAGE.name


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy, read once; who edits a file in it puts it back."""
    return Package(copied(tmp_path_factory.mktemp("copy")))


@pytest.fixture(scope="module")
def before(package):
    return digests(package)


def test_the_digest_of_the_running_package_is_that_of_its_copy(package, before):
    for entries, out in ENTRIES["levels"]:
        assert {code_digest(entries, exempt=out), code_digest(entries, package.root, out)} <= before["levels"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for values in before.values() for value in values)


def test_every_definition_that_a_stage_executes_is_reached(observed, reachable):
    """Of all branches, in every kind of stage; but for what the exemptions name, with their reasons."""
    assert {kind: names - reachable[kind] for kind, names in observed.items()} == {kind: set() for kind in KINDS}
    assert min(len(observed[kind]) for kind in TRAINING) > 90
    assert min(map(len, observed.values())) > 20


OPERATORS = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.Pow: ast.Mult},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.And: ast.Or, ast.Or: ast.And, ast.USub: ast.UAdd, ast.Not: ast.UAdd},
}


def places(statement):
    """The constants and operators of a statement that can be changed: a function for each, which changes it."""
    silent = {id(node.value) for node in ast.walk(statement) if isinstance(node, ast.Expr)}
    for node in ast.walk(statement):
        if isinstance(node, ast.Constant) and id(node) not in silent and isinstance(node.value, int | float | str):
            value = node.value
            if isinstance(value, bool):
                value = not value
            else:
                value += "_" if isinstance(value, str) else 1 if isinstance(value, int) else 0.004 * value or 0.004
            yield lambda node=node, value=value: setattr(node, "value", value)
        elif isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp) and type(node.op) in OPERATORS:
            yield lambda node=node: setattr(node, "op", OPERATORS[type(node.op)]())
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
            yield lambda node=node: node.ops.__setitem__(0, OPERATORS[type(node.ops[0])]())


def plant(package, key, draw):
    """Change one constant or operator of a definition. Returns the package with it; None for one that has neither."""
    module, _, name = key.partition(":")
    path = package.files[module]
    text = path.read_text()
    tree = ast.parse(text)
    choices = [change for node in tree.body if name in names_of(node) for change in places(node)]
    if not choices:
        return None
    draw.choice(choices)()
    path.write_text(ast.unparse(tree))
    edited = Edited(package, module)
    edited.module(module)  # read now
    path.write_text(text)
    return edited


def planted(package, before, observed, reachable, count, seed):
    """Plant changes, at least one in each module with a constant or an operator: in what ran, else in what is reached.

    Each stage that executes what was changed notices, and none that can't reach it. Returns the changed modules.
    """
    draw = random.Random(seed)
    ran, can = set().union(*observed.values()), set().union(*reachable.values())
    by_module: dict[str, list[str]] = {}
    for key in sorted(ran) + sorted(can - ran):
        if not key.endswith(":"):
            by_module.setdefault(key.partition(":")[0], []).append(key)
    orders = [draw.sample(keys, len(keys)) for keys in by_module.values()]
    orders += [[key] for key in draw.sample(sorted(ran), count)]
    touched = []
    for order in orders:
        key, edited = next(((key, copy) for key in order if (copy := plant(package, key, draw))), ("", None))
        if edited is not None:
            noticed = changed(before, edited)
            executing = {kind for kind in KINDS if key in observed[kind]}
            reaching = {kind for kind in KINDS if key in reachable[kind]}
            assert (executing or reaching) <= noticed <= reaching, key
            touched.append(key.partition(":")[0])
    return touched


def test_planted_changes_are_noticed_by_the_stages_that_execute_them_and_by_no_others(
    package, before, observed, reachable
):
    touched = planted(package, before, observed, reachable, 30, seed=7)
    assert len(touched) >= 100
    assert len(set(touched)) >= 80  # modules


MODELS, BASE, COURSES = "paper/models.py", "data/base.py", "plan/courses.py"
ONCE_MISSED = [
    (MODELS, "(1.0 - self.fraction) ** level", "(1.0 - self.fraction) ** (1.004 * level)", COMPUTING | {"collect"}),
    (BASE, 'torch.from_numpy(arrays[f"{split}_x"])', '-torch.from_numpy(arrays[f"{split}_x"])', {"prepare"}),
    (
        BASE,
        'for split in SPLITS}\n    if "mean"',
        'for split in SPLITS}\n    x["test"] = x["validation"]\n    if "mean"',
        {"prepare"},
    ),
    (COURSES, ".restart else k", ".restart else 0", TRAINING),
    ("kernels/dense.c", "+= a[i * ai] * bj;", "+= a[i * ai] * bj * 2;", COMPUTING),
    ("kernels/sparse.c", "sum[v] += w[j] * load(", "sum[v] -= w[j] * load(", COMPUTING),
    ("kernels/build.py", '"-O3"', '"-O2"', COMPUTING),
    ("report/templates/page.html.j2", "<h1", "<h2", {"report"}),
    ("paper/claims.py", "LEVEL = 0.95", "LEVEL = 0.9", {"claims"}),
    ("lottery/interpolation.py", "error.max(0) - ", "error.max(0) + ", {"stability"}),
    ("lottery/distance.py", "norm(dim=1)", "abs().sum(dim=1)", {"stability"}),
    ("lottery/criteria/magnitude.py", "weight.abs()", "weight.neg()", {"levels"}),
    ("base/seeds.py", ">> 1", ">> 2", TRAINING | {"prepare"}),
    ("results/store.py", ".to(torch.uint8)", ".to(torch.int8)", TRAINING),
    ("workflow/live.py", "PRIOR_SECONDS = 60.0", "PRIOR_SECONDS = 6.0", set()),
    ("cli/options.py", 'WITHOUT_RUN = ("push", "pull")', 'WITHOUT_RUN = ("push",)', set()),
]


@pytest.mark.parametrize(
    ("file", "old", "new", "kinds"), ONCE_MISSED, ids=[f"{c[0]}-{i}" for i, c in enumerate(ONCE_MISSED)]
)
def test_a_change_that_a_list_of_files_missed_is_noticed(package, before, file, old, new, kinds):
    path = package.root / file
    text = path.read_text()
    if kinds:
        assert old in text
    try:
        path.write_text(text.replace(old, new, 1))
        noticed = changed(before, Package(package.root))
    finally:
        path.write_text(text)
    assert kinds <= noticed
    assert bool(kinds) == bool(noticed)


def renamed(root, module, new):
    """Rename a module of a package, with all that imports it."""
    (root.parent / Path(*new.split("."))).with_suffix(".py").parent.mkdir(exist_ok=True)
    (root.parent / Path(*module.split("."))).with_suffix(".py").rename(
        (root.parent / Path(*new.split("."))).with_suffix(".py")
    )
    for path in root.rglob("*.py"):
        text = path.read_text()
        path.write_text(re.sub(rf"\b{re.escape(module)}\b", new, text))


LOOKED_UP = set(report._HOME.values())


def test_harmless_edits_are_noticed_by_no_stage(before, reachable, tmp_path):
    """Comments, docstrings, layout, new functions, a new command, renamed files; new entries of the registries too."""
    root, draw = copied(tmp_path), random.Random(3)
    package = Package(root)
    # a package that looks modules up by name counts all of them, so a new function there is no harmless edit
    modules = {key.partition(":")[0] for keys in reachable.values() for key in keys} - LOOKED_UP
    # likewise the stages that judge and report, which ask any data set for its test set, and any branch for its label
    registries = ("harness.data.sets.", "harness.lottery.branches.")
    modules = sorted(module for module in modules if not module.startswith(registries))
    for number, module in enumerate(draw.sample(modules, 15)):
        path = package.files[module]
        text = path.read_text()
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                node.body[0].value.value = "Another docstring."
        unused = "def a_new_helper(x: int) -> int:\n    return x + 1\n\n\nA_NEW_CONSTANT = 1\n"
        path.write_text((f"# a remark\n\n\n{text}\n# another\n", f"{text}\n\n{unused}", ast.unparse(tree))[number % 3])
        assert digests(Package(root)) == before, module
    (root / "cli" / "hello.py").write_text('"""A new command."""\n\n\ndef hello() -> None:\n    print("hello")\n')
    for module, new in (
        ("harness.base.seeds", "harness.base.draws"),
        ("harness.training.recipe", "harness.data.rates"),
    ):
        renamed(root, module, new)
        assert digests(Package(root)) == before, module


ENTRIES_OF_REGISTRIES = {
    "lottery/branches/same_as_imp.py": (PACKAGE / "lottery/branches/imp.py").read_text(),
    "lottery/criteria/largest.py": (PACKAGE / "lottery/criteria/magnitude.py").read_text(),
    "networks/architectures/small.py": 'NETWORKS = {"small": (dict, {"units": 10})}\n',
    "data/sets/same_digits.py": (PACKAGE / "data/sets/digits.py").read_text().replace('"digits":', '"same-digits":'),
}


def test_a_new_branch_criterion_network_or_data_set_trains_nothing_again(before, tmp_path):
    root = copied(tmp_path)
    for file, text in ENTRIES_OF_REGISTRIES.items():
        (root / file).write_text(text)
    after = digests(Package(root))
    assert {kind for kind in (*COMPUTING, "prepare") if after[kind] != before[kind]} == set()


def unaccounted(package: Package, reachable) -> set[str]:
    """The modules with code that no stage reaches and no exemption names."""
    reached_modules = {key.partition(":")[0] for keys in reachable.values() for key in keys}
    reached_modules |= {*HOMES.values(), *DATA_HOMES.values()}
    criteria = [(f"harness.lottery.criteria.{name}:CRITERION",) for name in CRITERIA]  # each in the keys of its runs
    reached_modules |= {key.partition(":")[0] for own in criteria for key in reached(own, exempt=exempt("dense"))}
    named = {name.partition(":")[0] for name in EXEMPT} | set(unreached(package.files))
    with_code = {
        name
        for name in package.files
        if {*package.module(name).definitions} - {"__all__"} or package.module(name).effects
    }
    return with_code - reached_modules - named


def test_every_module_is_reached_by_a_stage_or_exempt_for_a_written_reason(package, reachable, tmp_path):
    assert unaccounted(package, reachable) == set()
    reached_modules = {key.partition(":")[0] for keys in reachable.values() for key in keys}
    assert set(unreached(package.files)).isdisjoint(reached_modules)
    for name in {*EXEMPT, *UNREACHED}:
        assert name.partition(":")[0] in package.files, name
    assert all(len(reason.split()) > 2 for _, reason in EXEMPT.values())
    assert all(len(reason.split()) > 2 for reason in UNREACHED.values())
    assert all(set(kinds) <= set(ALL) for kinds, _ in EXEMPT.values())
    root = copied(tmp_path)
    (root / "lottery" / "forgotten.py").write_text("THRESHOLD = 0.5\n")
    assert unaccounted(Package(root), reachable) == {"harness.lottery.forgotten"}
