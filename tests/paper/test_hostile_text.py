"""Text that a parser would take for something else, or choke on: one line that names it, in under a second."""

import random
import resource
import shutil
import signal
import time
from contextlib import contextmanager

import psutil
import pytest
import yaml

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.base.yaml_text import LARGEST_TEXT, read_yaml
from harness.paper import load_spec
from harness.paper.params import default_run
from harness.paper.resources import load_resources
from harness.plan.runs import all_runs
from harness.results.open import load_scale

PAPER = "stabilizing-lth"
SCALE = "scales/smoke.yaml"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.fixture
def papers(tmp_path):
    shutil.copytree(checkout() / "papers", tmp_path / "papers")
    shutil.copy(checkout() / "params.yaml", tmp_path)
    return tmp_path


def replace(root, file: str, old: str, new: str) -> None:
    path = root / "papers" / PAPER / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refusal(root, scale: str = "smoke") -> str:
    began = time.monotonic()
    with pytest.raises(HarnessError) as caught:
        load_spec(root, PAPER, scale)
    assert time.monotonic() - began < 20  # a hang takes far longer, a busy machine does not
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "replicates: 2",
            "replicates: yes",
            "experiments.lenet.replicates: Input should be a valid integer (found 'yes')",
        ),
        ("replicates: 2", "replicates: on", "found 'on'"),
        ("replicates: 2", "replicates: true", "found True"),
        ("replicates: 2", "replicates: 010", "found '010'"),
        ("replicates: 2", "replicates: 1:30", "found '1:30'"),
        ("replicates: 2", "replicates: 1_0", "found '1_0'"),
        ("replicates: 2", "replicates: '3'", "found '3'"),
        ("replicates: 2", "replicates: 2.0", "found 2.0"),
        ("replicates: 2", "replicates: 0x_", "found '0x_'"),
        ("replicates: 2", "replicates: 2026-13-45", "found '2026-13-45'"),
        ("replicates: 2", "replicates: 1e9", "found 1e9"),
        ("replicates: 2", f"replicates: {'9' * 5000}", "found '99999"),
        ("replicates: 2", "replicates: !!bool maybe", "is not valid YAML: tag 'tag:yaml.org,2002:bool'; remove it"),
        ("replicates: 2", "replicates: !!int 0x_", "tag 'tag:yaml.org,2002:int'; remove it"),
        ("replicates: 2", "replicates: !!timestamp 2026-13-45", "tag 'tag:yaml.org,2002:timestamp'; remove it"),
        ("k: [0, 20]", "k: [no, 20]", "sweeps.0.k.0: Input should be a valid integer (found 'no')"),
        (
            "change: {steps: 200}",
            "change: {learning_rate: yes}",
            "change.learning_rate: Input should be a valid number",
        ),
        ("change: {steps: 200}", "change: {learning_rate: .inf}", "found '.inf'"),
        ("change: {steps: 200}", "change: {weight_decay: .nan}", "found '.nan'"),
        ("change: {steps: 200}", "change: {learning_rate: 1e999}", "found '1e999'"),
        (
            "replicates: 2",
            "calibration: {test_accuracy: [.nan, 3]}\n    replicates: 2",
            "calibration.test_accuracy.0: Input should be a valid number",
        ),
        ("judges_claims: false", "judges_claims: 0", "judges_claims: Input should be a valid boolean (found 0)"),
        ("judges_claims: false", "judges_claims: no", "found 'no'"),
        ("hardware: one", "hardware: 7\nonce: one", "hardware: Input should be a valid string (found 7)"),
        ("description:", "? [a]\n: 1\ndescription:", "a key that is no plain text"),
        ("description:", "<<: 3\ndescription:", "<< takes a mapping"),
        ("description:", f"x: {'[' * 100}{']' * 100}\ndescription:", "nested more than 64 deep"),
        ("description:", f"x: {'[' * 100_000}\ndescription:", "is not valid YAML"),
        ("description:", f"{BOMB}description:", "values with aliases written out"),
        ("description:", "x: &x [*x]\ndescription:", "nothing before *x is named &x"),
        ("description:", "x: \0\ndescription:", "is not valid YAML"),
        ("lenet:", "1e1:", "experiments.1e1: not in"),
    ],
)
def test_one_line_with_the_value_as_written(papers, old, new, message):
    replace(papers, SCALE, old, new)
    assert message in refusal(papers)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("replicates: 2", "replicates: 1000000000", "experiments.lenet.replicates: 1000000000 is more than the 1,000"),
        ("levels: 2", "levels: 1000000000", "sweeps.0.levels: 1000000000 is more than the 1,000"),
        ("dense_orders: [0]", "dense_orders: [0]\n    dense_copies: 100000000", "dense_copies: 100000000 is more than"),
        ("imp: 2", "imp: 1000000", "at.2.imp: 1000000 is more than the 100"),
        ("change: {steps: 200}", "change: {steps: 99999999999}", "change.steps: 99999999999 is more than"),
        ("replicates: 2", "replicates: 1000\n    dense_copies: 100", "experiments.lenet: 125,000 networks; give fewer"),
    ],
)
def test_numbers_that_would_be_planned_for_ever(papers, old, new, message):
    replace(papers, SCALE, old, new)
    assert message in refusal(papers)


def test_a_scale_without_experiments(papers):
    path = papers / "papers" / PAPER / SCALE
    path.write_text("description: x\njudges_claims: false\nhardware: x\nexperiments: {}\n")
    assert "experiments: Dictionary should have at least 1 item" in refusal(papers)


@pytest.mark.parametrize("paper", ["stabilizing-lth", "linear-mode-connectivity"])
def test_claims_cut_between_two(papers, paper):
    path = papers / "papers" / paper / "claims.yaml"
    whole = path.read_text()
    count = yaml.safe_load((papers / "papers" / paper / "paper.yaml").read_text())["claims"]
    path.write_text(whole[: whole.rindex("\n- id:") + 1])
    with pytest.raises(
        HarnessError, match=rf"claims.yaml: has {count - 1} claims, paper.yaml says {count}; restore it"
    ):
        load_spec(papers, paper, "smoke")


def test_all_mistakes_of_a_file_at_once(papers):
    replace(papers, SCALE, "levels: 2", "levles: 2")
    replace(papers, SCALE, "replicates: 2", "replicates: '2'")
    replace(papers, SCALE, "judges_claims", "judge_claims")
    message = refusal(papers)
    assert message.startswith(f"{papers / 'papers' / PAPER / SCALE}: ")
    for mistake in (
        "judges_claims: this field is missing",
        "judge_claims: unknown field; did you mean judges_claims?",
        "experiments.lenet.sweeps.0.levles: unknown field; did you mean levels?",
        "experiments.lenet.sweeps.0.levels: this field is missing",
        "experiments.lenet.replicates: Input should be a valid integer (found '2')",
    ):
        assert mistake in message


@pytest.mark.parametrize("number", ["1e9", "2.50", "-.5e3"])
def test_a_number_is_told_as_it_is_written(papers, number):
    replace(papers, SCALE, "replicates: 2", f"replicates: {number}")
    replace(papers, SCALE, "k: [0, 20]", f"k: {{at: [{number}]}}")
    message = refusal(papers)
    assert f"replicates: Input should be a valid integer (found {number})" in message
    assert f"(found {{'at': [{number}]}})" in message


def test_all_unknown_fields_of_claims_at_once(papers):
    """In a cell of a part, in a term and in the claim itself."""
    replace(papers, "claims.yaml", "{experiment: lenet, branch: imp, k: 0", "{experimnt: lenet, brnch: imp, kk: 0")
    replace(papers, "claims.yaml", "statement:", "statment:")
    message = refusal(papers)
    for field, near in (("experimnt", "experiment"), ("brnch", "branch"), ("statment", "statement")):
        assert f"{field}: unknown field; did you mean {near}?" in message
    assert ".a.kk: unknown field" in message


def test_all_mistakes_across_files_at_once(papers):
    replace(papers, SCALE, "k: [0, 20]", "k: [0, 200]")
    replace(papers, SCALE, "drops: [30, 45]", "dropps: [30, 45]")
    message = refusal(papers)
    assert "experiments.lenet: rewind iteration k = 200 is past the end" in message
    assert "experiments.resnet20-standard.change.dropps: unknown field; did you mean drops?" in message


@pytest.mark.parametrize("name", ["1e1", "007", "1-0", "2026-11-27", "null", "true", "yes", "nan", "inf", "a" * 300])
def test_names_that_another_reader_takes_for_a_value(papers, name):
    folder = papers / "papers" / PAPER
    if len(name) < 100:
        shutil.copy(folder / SCALE, folder / "scales" / f"{name}.yaml")
    assert refusal(papers, name).startswith("--scale ")
    with pytest.raises(HarnessError, match="--paper "):
        load_spec(papers, name, "smoke")
    replace(papers, "experiments.yaml", "lenet-restarted:", f"'{name}':")
    assert "rename it" in refusal(papers)
    (papers / "params.yaml").write_text(f"run: {{paper: {PAPER}, scale: '{name}', folder: results/{PAPER}/{name}}}\n")
    with pytest.raises(HarnessError, match=r"params.yaml: run.scale: .*rename it"):
        default_run(papers)


def test_params_are_strict(papers):
    (papers / "params.yaml").write_text("run: {paper: 3, scal: mini, folder: results/x/mini}\n")
    with pytest.raises(HarnessError) as caught:
        default_run(papers)
    assert "run.paper: Input should be a valid string (found 3)" in str(caught.value)
    assert "run.scal: unknown field; did you mean scale?" in str(caught.value)


def test_resources_are_strict_and_bounded(tmp_path):
    path = tmp_path / "resources.yaml"
    path.write_text("mini: {rules: {default: {threads: true, minuts: 3, gpu: '1'}}}")
    with pytest.raises(HarnessError) as caught:
        load_resources(tmp_path, "mini")
    for mistake in ("threads: Input should be a valid integer (found True)", "did you mean minutes?", "(found '1')"):
        assert mistake in str(caught.value)
    path.write_text("mini: {rules: {default: {threads: 1000000000}}}")
    with pytest.raises(HarnessError, match=r"mini.rules.default.threads: 1000000000 is more than the 10,000"):
        load_resources(tmp_path, "mini")
    path.write_text("")
    assert not load_resources(tmp_path, "mini").rules


def test_a_published_table_with_a_byte_order_mark_is_read(papers):
    path = papers / "papers" / PAPER / "published" / "fig3.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    load_spec(papers, PAPER, "smoke")


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "1_0", "010", "yes"])
def test_published_numbers_are_finite_and_plain(papers, value):
    replace(papers, "published/fig3.csv", ",98.3,", f",{value},")
    assert f"line 2, value: {value!r} is not a number" in refusal(papers)


def test_a_folder_and_a_huge_file_where_a_text_should_be(tmp_path):
    with pytest.raises(HarnessError, match=r"can't be read \(Is a directory\)"):
        read_yaml(tmp_path)
    (tmp_path / "x.yaml").write_text("#" * (LARGEST_TEXT + 1))
    with pytest.raises(HarnessError, match="more than 4,194,304 bytes"):
        read_yaml(tmp_path / "x.yaml")


def test_what_ships_reads_as_any_other_parser_reads_it():
    """Against PyYAML's own construction: the same but for keys, which stay text."""

    def plain(value):
        if isinstance(value, dict):
            return {str(key): plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    files = [checkout() / "params.yaml", *sorted((checkout() / "papers").rglob("*.yaml"))]
    assert len(files) > 10
    for path in files:
        assert read_yaml(path) == plain(yaml.safe_load(path.read_text(encoding="utf-8"))), path


NASTY = [
    *(
        "",
        "~",
        "yes",
        "010",
        "1:30",
        "0x_",
        "-1",
        "0",
        "1e9",
        "1e999",
        ".nan",
        "-.inf",
        "2026-13-45",
        "'3'",
        "9" * 5000,
    ),
    *("!!bool maybe", "!!python/name:os.system", "!!binary x", "!!set {a}", "[]", "{}", "[[[[[]]]]]", "{<<: 1}"),
    *("&a [*a]", "*nothing", "{? {a: b} : c}", "1000000000", "99999999", "1000", "'\\ud800'", '"\\ud800"', '"\\0"'),
    *("- - - -", "../../etc", "x" * 5000, "|", ">-", "%", "@", "`", "\t", "\x85", "\u2028", "\ufeff", "\U0001f600"),
]
FILES = ("paper.yaml", "experiments.yaml", "claims.yaml", SCALE, "published/fig3.csv", "resources.yaml", "params.yaml")


def mutated(rng: random.Random, data: bytes) -> bytes:
    """The bytes of a file after one to three random injuries."""
    for _ in range(rng.randint(1, 3)):
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        kind = rng.choice(("flip", "cut", "key", "value", "value", "cell", "lines"))
        if kind == "flip" and data:
            place = rng.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        elif kind == "cut":
            data = data[: rng.randrange(len(data) + 1)]
        elif kind == "lines":
            lines[at : at + rng.randint(0, 3)] = lines[at : at + 1] * rng.randint(0, 3)
            data = b"\n".join(lines)
        else:
            line, nasty = lines[at], rng.choice(NASTY).encode("utf-8", "surrogatepass")
            name, colon, _ = line.partition(b":")
            if kind == "cell":
                cells = line.split(b",")
                cells[rng.randrange(len(cells))] = nasty
                line = b",".join(cells)
            elif colon:
                line = name[: rng.randint(0, len(name))] + line[len(name) :] if kind == "key" else name + b": " + nasty
            lines[at] = line
            data = b"\n".join(lines)
    return data


@contextmanager
def limits(seconds: int, size: int):
    """Ends with an error what takes longer, or more memory besides what is there."""

    def late(*_):
        raise RuntimeError(f"over {seconds} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    now = psutil.Process().memory_info().vms
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (now + size, before[1]))
    try:
        yield lambda: signal.alarm(seconds)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(("count", "seed"), [(100, 1), pytest.param(2000, 2, marks=pytest.mark.slow)])
def test_injured_files_are_read_or_refused_in_one_line(papers, count, seed):
    rng, refused = random.Random(seed), []
    with limits(60, 4 * 2**30) as restart:
        for number in range(count):
            name = FILES[number % len(FILES)]
            path = papers / name if name == "params.yaml" else papers / "papers" / PAPER / name
            whole = path.read_bytes()
            path.write_bytes(injured := mutated(rng, whole))
            restart()
            try:
                default_run(papers)
                load_resources(papers / "papers" / PAPER, "smoke")
                all_runs(load_scale(papers, PAPER, "smoke"))
            except HarnessError as error:
                refused.append(str(error))
            except Exception as error:
                raise AssertionError(f"input {number}, {name}: {error!r:.300}: {injured[:2000]!r}") from error
            path.write_bytes(whole)
    assert count / 3 < len(refused) < count
    assert not [message for message in refused if "\n" in message]
