"""Two whole runs at once: on one results folder one of them is refused; on two, both end with the same bits."""

import os
import subprocess
import sys

import pytest

from tests.end_to_end.conftest import contents, make_checkout

RUN = ("reproduce", "--scale", "tiny", "--cores", "1")


def ends(*processes: subprocess.Popen[str]) -> list[str]:
    """Wait for commands to end. Returns what those that failed wrote to stderr; the others write nothing there."""
    errors = []
    for process in processes:
        out, err = process.communicate(timeout=400)
        assert process.returncode == bool(err), out + err
        errors += [err] if err else []
    return errors


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("checkouts", [1, 2])
@pytest.mark.parametrize("folders", [1, 2])
def test_two_whole_runs_at_once(finished_checkout, tmp_path, checkouts, folders):
    """One checkout works on one run at a time, and so does one results folder: the second is refused in one line."""
    made = [make_checkout(tmp_path / f"checkout{number}") for number in range(checkouts)]
    commands = [(made[-place], (*RUN, "--results", str(tmp_path / f"results{place % folders}"))) for place in (0, 1)]
    errors = ends(*[checkout.start(*command) for checkout, command in commands])
    assert len(errors) == (0 if checkouts == folders == 2 else 1)
    for err in errors:
        assert err.startswith("error: another run is active here (process ")
        assert err.count("\n") == 1
    for checkout, command in commands:  # the refused one, given again; the other has nothing to do
        assert checkout.run(*command)[0] == 0
    for number in range(folders):
        assert contents(tmp_path / f"results{number}" / "stabilizing-lth" / "tiny") == finished_checkout.contents()
    assert not [*tmp_path.rglob("*.part")]


@pytest.mark.slow
@pytest.mark.long
def test_stale_locks_of_a_dead_run_hold_nobody_up(finished_checkout, tmp_path):
    """Files of every lock, naming a process that has ended, or one that lives and is no run; and the engine's own."""
    made = make_checkout(tmp_path / "checkout")
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    engine = made.root / ".snakemake"
    for path, owner in (
        (engine / "harness.lock", dead.pid),
        (made.results / ".harness.lock", os.getpid()),
        (made.results / "progress" / "stages.lock", dead.pid),
        (engine / "locks" / "0.input.lock", "results/stabilizing-lth/tiny/stages/lenet/c0/dense.json"),
        (engine / "locks" / "0.output.lock", "results/stabilizing-lth/tiny/stages/lenet/c0/dense.json"),
        (made.results / "runs" / ".L0.safetensors.1.part", "half"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{owner}\n")
    status, out, err = made.reproduce()
    assert status == 0, out + err
    assert made.contents() == finished_checkout.contents()
    assert made.remains() == []
