"""Digests of code: what an entry point can reach changes them, and nothing else does."""

import re
from textwrap import dedent

import pytest

from harness.results.code import code_digest, modules, reached

ENTRY = ["pkg.main:run"]


class Package:
    """A throw-away package: files by their paths in it; `main.py` has the entry point."""

    def __init__(self, folder, **files):
        self.folder = folder / "pkg"
        self.write("__init__", "")
        for name, text in files.items():
            self.write(name, text)

    def path(self, name):
        return self.folder / (name if "." in name else name.replace("__in_", "/") + ".py")

    def write(self, name, text):
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(dedent(text))

    def edit(self, name, old, new):
        text = self.path(name).read_text()
        assert old in text
        self.path(name).write_text(text.replace(old, new))

    def digest(self, exempt=()):
        return code_digest(ENTRY, self.folder, exempt)

    def reached(self, exempt=()):
        return {key.removeprefix("pkg.") for key in reached(ENTRY, self.folder, exempt)}


@pytest.fixture
def make(tmp_path):
    def build(files, folder="first"):
        package = Package(tmp_path / folder)
        for name, text in files.items():
            package.write(name, text)
        return package

    return build


def differ(make, before, after):
    """Whether the digests of two packages differ, each given by the files in it."""
    return make(before, "first").digest() != make(after, "second").digest()


TWO = {
    "main.py": """
        from pkg.other import helper, unused

        def run(x):
            return helper(x)
        """,
    "other.py": """
        LIMIT = 3

        def helper(x):
            '''Doc.'''
            return min(x, LIMIT)

        def unused(x):
            return -x
        """,
}


def test_what_is_named_is_reached_and_nothing_else(make):
    assert make(TWO).reached() == {"main:run", "other:helper", "other:LIMIT"}


@pytest.mark.parametrize("file", ["main.py", "other.py"])
def test_a_reached_definition_changes_the_digest(make, file):
    old, new = {"main.py": ("helper(x)", "helper(x) + 1"), "other.py": ("LIMIT = 3", "LIMIT = 4")}[file]
    assert differ(make, TWO, {**TWO, file: TWO[file].replace(old, new)})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return min", "# a remark\n            return min"),
        ("'''Doc.'''", "'''Another.'''"),
        ("'''Doc.'''", ""),
        ("min(x, LIMIT)", "min(\n                x,\n                LIMIT,\n            )"),
        ("return -x", "return +x"),
        ("def unused", "def more():\n            return LIMIT\n\n        def unused"),
        ("LIMIT = 3", "import json\n\n        LIMIT = 3"),
    ],
)
def test_harmless_edits_change_nothing(make, old, new):
    assert old in TWO["other.py"]
    assert not differ(make, TWO, {**TWO, "other.py": TWO["other.py"].replace(old, new)})


@pytest.mark.parametrize(
    "main",
    [
        "from pkg import other\n\ndef run(x):\n    return other.helper(x)",
        "import pkg.other\n\ndef run(x):\n    return pkg.other.helper(x)",
        "import pkg.other as o\n\ndef run(x):\n    return o.helper(x)",
        "from pkg.other import helper as h\n\ndef run(x):\n    return h(x)",
        "from .other import helper\n\ndef run(x):\n    return helper(x)",
        "from . import other\n\ndef run(x):\n    return other.helper(x)",
        "def run(x):\n    '''Doc.'''\n    from pkg.other import helper\n\n    return helper(x)",
    ],
)
def test_the_style_of_an_import_changes_nothing(make, main):
    assert not differ(make, TWO, {**TWO, "main.py": main})


def test_a_moved_file_changes_nothing(make):
    after = {"main.py": TWO["main.py"].replace("pkg.other", "pkg.deep.er"), "deep/er.py": TWO["other.py"]}
    assert not differ(make, TWO, {**after, "deep/__init__.py": ""})


def test_a_definition_may_move_to_another_module(make):
    other, limit = TWO["other.py"].replace("LIMIT = 3", "from pkg.limits import LIMIT"), "LIMIT = 3"
    assert not differ(make, TWO, {**TWO, "other.py": other, "limits.py": limit})


def test_two_functions_swapped_by_their_imports_are_noticed(make):
    """Of the same name in two modules, under each other's names, and of the same text with other things below."""
    main = "from pkg.{} import f as a\nfrom pkg.{} import f as b\n\ndef run(x):\n    return a(x) - b(x)"
    files = {"one.py": "def f(x):\n    return x", "two.py": "def f(x):\n    return 2 * x"}
    assert differ(
        make, {**files, "main.py": main.format("one", "two")}, {**files, "main.py": main.format("two", "one")}
    )
    swapped = "from pkg.both import {} as a, {} as b\n\ndef run(x):\n    return a(x) - b(x)"
    both = {"both.py": "def f(x):\n    return x\n\ndef g(x):\n    return -x"}
    assert differ(make, *({**both, "main.py": swapped.format(*order)} for order in (("f", "g"), ("g", "f"))))
    for name, value in (("one", 1), ("two", 2)):
        files[f"{name}.py"] = f"from pkg.{name}_below import c\n\ndef f(x):\n    return c * x"
        files[f"{name}_below.py"] = f"c = {value}"
    assert differ(
        make, {**files, "main.py": main.format("one", "two")}, {**files, "main.py": main.format("two", "one")}
    )


def test_another_library_under_the_same_name_is_noticed(make):
    main = "from {} import sqrt\n\ndef run(x):\n    return sqrt(x)"
    assert differ(make, {"main.py": main.format("math")}, {"main.py": main.format("cmath")})
    main = "import {} as m\n\ndef run(x):\n    return m.sqrt(x)"
    assert differ(make, {"main.py": main.format("math")}, {"main.py": main.format("cmath")})
    assert not differ(
        make,
        {"main.py": main.format("math")},
        {"main.py": "def run(x):\n    from math import sqrt\n\n    return sqrt(x)"},
    )


def test_an_import_with_an_alternative_reaches_both_in_order(make):
    main = "try:\n    from pkg.a import f\nexcept ImportError:\n    from pkg.b import f\n\ndef run():\n    return f()"
    files = {"main.py": main, "a.py": "def f():\n    return 1", "b.py": "def f():\n    return 2"}
    assert make(files).reached() == {"main:run", "main:", "a:f", "b:f"}
    swapped = main.replace("pkg.a", "pkg.c").replace("pkg.b", "pkg.a").replace("pkg.c", "pkg.b")
    assert differ(make, files, {**files, "main.py": swapped})


@pytest.mark.parametrize(
    "main",
    [
        "@target\ndef run(): ...",
        "def run(x: target): ...",
        "def run(x: 'list[target] | None'): ...",
        "def run() -> 'target': ...",
        "def run(*, x=target): ...",
        "def run():\n    x: 'target' = 1",
        "class run(target): ...",
        "class run:\n    def method(self):\n        return lambda: target",
        "run = {'a': [target]}",
        "run: 'target'",
        "def run(x):\n    return [target for y in x if y]",
        "def run(x):\n    return [target for target in target(x)]",
        "def run(x):\n    return (lambda y=target: y)()",
        "def run(x):\n    return f'{x:{target}}'",
        "def run(x):\n    [target for target in x]\n    return target",
        "def run(x):\n    def inner():\n        target = 1\n    return target",
        "def run():\n    global target\n    target = 1",
        "def run():\n    return 'pkg.other:target'",
        "def run():\n    return 'pkg.other.target'",
        "HOME = {'target': 'pkg.other'}\n\ndef run(name):\n    return import_module(HOME[name])",
    ],
)
def test_every_place_of_a_name_reaches_it(make, main):
    files = {"main.py": f"from pkg.other import target\n\n{main}", "other.py": "def target(x):\n    return x"}
    assert "other:target" in make(files).reached()
    assert differ(make, files, {**files, "other.py": "def target(x):\n    return -x"})


@pytest.mark.parametrize(
    "main",
    [
        "def run(target):\n    return target",
        "def run():\n    target = 1\n    return target",
        "def run(x):\n    for target in x:\n        print(target)",
        "def run(x):\n    return [target for target in x]",
        "def run(x):\n    return x.target",
        "def run():\n    return 'target'",
        "def run():\n    '''pkg.other:target'''",
        "from typing import Literal\n\ndef run(x: Literal['target']): ...",
    ],
)
def test_a_variable_of_the_same_name_does_not(make, main):
    files = {"main.py": f"from pkg.other import target\n\n{main}", "other.py": "def target(x):\n    return x"}
    assert "other:target" not in make(files).reached()


def test_names_imported_for_annotations_alone_are_followed(make):
    main = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from pkg.other import Kind\n\n"
    main += "def run(x: 'Kind'): ..."
    files = {"main.py": main, "other.py": "print('not run')\n\nclass Kind:\n    size = 1"}
    assert make(files).reached() == {"main:run", "other:Kind", "other:"}
    assert make({**files, "main.py": main.replace(": 'Kind'", "")}, "second").reached() == {"main:run"}


def test_a_package_passes_names_on(make):
    files = {
        "main.py": "from pkg.deep import helper\n\ndef run():\n    return helper()",
        "deep/__init__.py": "from pkg.deep.inner import helper, unused",
        "deep/inner.py": "def helper():\n    return 1\n\ndef unused():\n    return 2",
    }
    assert make(files).reached() == {"main:run", "deep.inner:helper"}


def test_names_that_a_package_imports_when_asked_are_followed(make):
    lazy = """
        from importlib import import_module

        _HOME = {"helper": "pkg.deep.inner"}

        def __getattr__(name):
            return getattr(import_module(_HOME[name]), name)
        """
    files = {
        "main.py": "from pkg.deep import helper\n\ndef run():\n    return helper()",
        "deep/__init__.py": lazy,
        "deep/inner.py": "def helper():\n    return 1",
    }
    assert "deep.inner:helper" in make(files).reached()
    direct = "def __getattr__(name):\n    from pkg.deep.inner import helper\n\n    return helper"
    assert "deep.inner:helper" in make({**files, "deep/__init__.py": direct}, "second").reached()
    alone = {**files, "main.py": "import pkg.deep\n\ndef run():\n    return 1"}
    assert make(alone, "third").reached() == {"main:run"}


def test_a_module_used_as_an_object_is_reached_whole(make):
    files = {
        "main.py": "from pkg import other\n\ndef run(name):\n    return getattr(other, name)",
        "other.py": "A = 1\n\ndef b(): ...",
    }
    assert make(files).reached() == {"main:run", "other:A", "other:b"}
    assert differ(make, files, {**files, "other.py": "A = 1\n\ndef b(): ...\n\ndef c(): ..."})
    nowhere = "from pkg import other\n\ndef run():\n    return other.missing"
    assert "other:b" in make({**files, "main.py": nowhere}, "third").reached()
    itself = "from pkg import other\n\ndef run():\n    return other.__file__"
    assert make({**files, "main.py": itself}, "fourth").reached() == {"main:run"}


@pytest.mark.parametrize(
    "effect",
    [
        "KNOWN['x'] = 1",
        "KNOWN |= {'x': 1}",
        "KNOWN.update(x=1)",
        "for name in ('x', 'y'):\n    KNOWN[name] = 1",
        "if KNOWN:\n    import json",
        "try:\n    import nothing\nexcept ImportError:\n    nothing = None",
        "assert KNOWN",
        "del KNOWN",
    ],
)
@pytest.mark.parametrize("file", ["other.py", "deep/__init__.py", "deep/inner.py"])
def test_what_a_module_does_on_import_counts(make, effect, file):
    """Of modules reached, of the packages around them, and of modules that are imported on the way."""
    files = {
        "main.py": "import pkg.other\nimport pkg.deep.inner\n\ndef run():\n    return pkg.other.helper()",
        "other.py": "KNOWN = {}\n\ndef helper(): ...",
        "deep/__init__.py": "KNOWN = {}",
        "deep/inner.py": "KNOWN = {}",
    }
    changed = make({**files, file: f"{files[file]}\n{effect}"}, "second")
    assert make(files).digest() != changed.digest()
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert {f"{module}:", *([f"{module}:KNOWN"] if "KNOWN" in effect else [])} <= changed.reached()


def test_a_module_that_nothing_imports_does_nothing(make):
    assert not differ(make, TWO, {**TWO, "apart.py": "print('x')"})


@pytest.mark.parametrize(
    "definition",
    [
        "@register\ndef dense():\n    return 1",
        "@register('dense')\nclass Dense:\n    size = 1",
        "@registry.register('dense')\ndef dense():\n    return 1",
        "class Dense(Base):\n    size = 1",
        "class Dense(metaclass=Meta):\n    size = 1",
    ],
)
def test_definitions_that_register_themselves_are_reached(make, definition):
    registry = """
        KNOWN = {}

        def register(f): ...

        class Base:
            def __init_subclass__(cls): ...

        class Meta(type): ...
        """
    imports = "from pkg import registry\nfrom pkg.registry import Base, Meta, register\n\n"
    files = {
        "main.py": "import pkg.kinds\nfrom pkg.registry import KNOWN\n\ndef run(x):\n    return KNOWN[x]",
        "registry.py": registry,
        "kinds/__init__.py": "from pkg.kinds import dense",
        "kinds/dense.py": imports + definition,
    }
    assert make(files).reached() & {"kinds.dense:dense", "kinds.dense:Dense"}
    assert differ(make, files, {**files, "kinds/dense.py": (imports + definition).replace("1", "2")})
    plain = "from functools import cache\n\n@cache\ndef dense():\n    return 1"
    assert not any(key.startswith("kinds") for key in make({**files, "kinds/dense.py": plain}, "third").reached())


@pytest.mark.parametrize(
    "init",
    [
        "import pkgutil\n\nfor info in pkgutil.iter_modules(__path__):\n    __import__(info.name)",
        "import pkgutil\n\ndef names():\n    return [info.name for info in pkgutil.iter_modules(__path__)]\n\nnames()",
        "from pkgutil import iter_modules as modules\n\nfor info in modules(['x']):\n    print(info)",
        "from pkg.kinds import dense, imp\n\nKINDS = {module.NAME: module for module in (dense, imp)}\n\nprint(KINDS)",
    ],
)
def test_a_registry_that_goes_through_its_modules_reaches_them(make, init):
    files = {
        "main.py": "from pkg import kinds\n\ndef run(x):\n    return kinds.__name__",
        "kinds/__init__.py": init,
        "kinds/dense.py": "NAME = 'dense'\n\ndef start(): ...",
        "kinds/imp.py": "NAME = 'imp'\n\ndef start():\n    return 1",
    }
    assert {"kinds.dense:start", "kinds.imp:start"} <= make(files).reached()
    assert differ(make, files, {**files, "kinds/imp.py": "NAME = 'imp'\n\ndef start():\n    return 2"})


def test_all_assignments_and_definitions_of_a_name_count(make):
    files = {"main.py": "LIMIT = 1\n\ndef run():\n    return LIMIT, A\n\nLIMIT = 2\nA, B = 3, 4"}
    for old, new in (("= 1", "= 5"), ("= 2", "= 5"), ("3, 4", "3, 5")):
        assert differ(make, files, {"main.py": files["main.py"].replace(old, new)})


C = {
    "main.py": "from pkg.kernels import run",
    "kernels/__init__.py": "def run(): ...",
    "kernels/k.c": '#define A 1\nint f() { return A + \'"\'; } /* adds */\nchar *s = "a  /* b */";\n',
    "kernels/templates/page.j2": "<p>{{ x }}</p>\n",
    "kernels/notes.txt": "notes",
}


@pytest.mark.parametrize(
    ("file", "old", "new", "noticed"),
    [
        ("kernels/k.c", "return A", "return  A // no\n", False),
        ("kernels/k.c", "/* adds */", "/* adds\n\n more */", False),
        ("kernels/k.c", "return A", "return /* the sum */ A", False),
        ("kernels/k.c", "#define A 1\n", "/* A\n */\n\n#define A 1\n", False),
        ("kernels/k.c", "A +", "A -", True),
        ("kernels/k.c", "a  /* b */", "a  /* c */", True),
        ("kernels/k.c", "a  /* b */", "a /* b */", True),
        ("kernels/k.c", "#define A 1\nint", "#define A 1 int", True),
        ("kernels/templates/page.j2", "<p>", "<b>", True),
        ("kernels/notes.txt", "notes", "others", False),
    ],
)
def test_files_beside_a_module_count_by_content(make, file, old, new, noticed):
    assert old in C[file]
    assert differ(make, C, {**C, file: C[file].replace(old, new)}) == noticed


def test_templates_that_are_exchanged_are_noticed(make):
    page, card = "kernels/templates/page.j2", "kernels/templates/card.j2"
    files = {**C, card: "<p>{{ y }}</p>\n"}
    assert differ(make, files, {**files, page: files[card], card: files[page]})


def test_c_sources_may_be_renamed(make):
    assert not differ(make, C, {name.replace("k.c", "renamed.c"): text for name, text in C.items()})
    apart = {**TWO, "kernels/__init__.py": "A = 1", "kernels/k.c": "int a;"}
    assert not differ(make, apart, {**apart, "kernels/k.c": "int b;"})


@pytest.mark.parametrize("exempt", ["pkg.other", "pkg.other:helper"])
def test_what_is_exempt_is_not_followed_but_its_name_counts(make, exempt):
    package = make(TWO)
    assert package.reached([exempt]) == {"main:run"}
    before = package.digest([exempt])
    assert before != package.digest()
    package.edit("other.py", "LIMIT = 3", "LIMIT = 4")
    assert package.digest([exempt]) == before
    package.edit("main.py", "helper(x)", "unused(x)")
    assert package.digest([exempt]) != before


def test_an_exemption_of_a_name_that_is_passed_on_holds_for_what_it_refers_to(make):
    files = {**TWO, "front.py": "from pkg.other import helper"}
    assert make(files).reached(["pkg.front:helper"]) == {"main:run"}


@pytest.mark.parametrize(
    ("main", "message"),
    [
        ("from pkg.nowhere import f\n\ndef run(): ...", "pkg.nowhere"),
        ("import pkg.nowhere\n\ndef run(): ...", "pkg.nowhere"),
        ("def run():\n    from pkg.other import missing", "'missing'"),
        ("from pkg.other import *\n\ndef run(): ...", "star imports"),
        ("def stop(): ...", "'run'"),
    ],
)
def test_what_cannot_be_resolved_is_an_error(make, main, message):
    with pytest.raises(LookupError, match=re.escape(message)):
        make({**TWO, "main.py": main}).digest()


def test_an_exemption_of_nothing_is_an_error(make):
    with pytest.raises(LookupError, match="'gone'"):
        make(TWO).digest(["pkg.other:gone"])
    with pytest.raises(LookupError, match=r"pkg\.gone"):
        make(TWO).digest(["pkg.gone"])


def test_modules_are_listed_by_their_dotted_names(make):
    assert modules(make({"deep/er.py": ""}).folder) == ["pkg", "pkg.deep.er"]
