"""papers/ as data: what ships is valid at every scale, and every kind of mistake is one line with a fix."""

import csv
import shutil
from pathlib import Path

import pytest
import yaml

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.networks import NETWORKS
from harness.paper import Spec, load_spec
from harness.plan.settings import check_settings

PAPER = "stabilizing-lth"
SCALES = ("smoke", "mini", "wide", "paper")


@pytest.fixture
def papers(tmp_path):
    shutil.copytree(checkout() / "papers", tmp_path / "papers")
    return tmp_path


def edit(root: Path, file: str, change):
    path = root / "papers" / PAPER / file
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))


def failure(root: Path, scale: str = "mini") -> str:
    with pytest.raises(HarnessError) as caught:
        load_spec(root, PAPER, scale)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("scale", SCALES)
def test_what_ships_is_valid(scale):
    spec = load_spec(checkout(), PAPER, scale)
    assert [claim.id for claim in spec.claims] == [*(f"C{number}" for number in range(1, 34)), "S1"]
    for name, setting in spec.scale.experiments.items():
        assert setting.network in NETWORKS
        assert spec.recipe(name).steps > max(setting.snapshot_steps())


def test_at_least_twelve_claims_can_be_judged_at_the_mini_scale():
    spec = load_spec(checkout(), PAPER, "mini")
    assert sum("mini" in claim.scales for claim in spec.claims) >= 12
    assert not any("smoke" in claim.scales for claim in spec.claims)


def test_every_claim_says_where_it_is_from_and_how_its_numbers_were_had():
    for claim in load_spec(checkout(), PAPER, "mini").claims:
        assert claim.source.where
        assert claim.scales or claim.not_tested
        for value in claim.published:
            assert value.obtained in ("printed", "digitised", "derived", "text", "remembered")


def recipe_rows(spec: Spec) -> dict[str, tuple[object, ...]]:
    """What a paper's tables print of each experiment's recipe."""
    return {
        name: (recipe.optimizer, recipe.learning_rate, recipe.batch_size, recipe.steps, recipe.warmup, recipe.drops)
        for name in spec.scale.experiments
        for recipe in [spec.recipe(name)]
    }


def test_recipes_are_the_papers():
    """STAB Fig. 2, with the learning-rate drops of LTH (the printed columns are swapped), and Fig. 6."""
    spec = load_spec(checkout(), PAPER, "paper")
    resnet, vgg, epoch = (20000, 25000), (56000, 84000), 1251
    fifty = ("momentum", 0.4, 1024, 90 * epoch, 5 * epoch, (30 * epoch, 60 * epoch, 80 * epoch))
    assert recipe_rows(spec) == {
        "lenet": ("adam", 0.0012, 60, 50000, 0, ()),
        "resnet20-standard": ("momentum", 0.1, 128, 30000, 0, resnet),
        "resnet20-low": ("momentum", 0.01, 128, 30000, 0, resnet),
        "resnet20-warmup": ("momentum", 0.03, 128, 30000, 20000, resnet),
        "vgg19-standard": ("momentum", 0.1, 64, 112000, 0, vgg),
        "vgg19-low": ("momentum", 0.01, 64, 112000, 0, vgg),
        "vgg19-warmup": ("momentum", 0.1, 64, 112000, 10000, vgg),
        "lenet-restarted": ("adam", 0.0012, 60, 50000, 0, ()),
        "resnet20-restarted": ("momentum", 0.1, 128, 30000, 0, resnet),
        "vgg19-restarted": ("momentum", 0.1, 64, 112000, 0, vgg),
        "resnet50": fifty,
        "resnet50-iterative": fifty,
        "inception-v3": ("momentum", 0.03, 1024, 171 * epoch, 0, ()),
        "squeezenet": ("rmsprop", 0.66, 1024, 150 * epoch, 0, ()),
    }
    decays = {name: (spec.recipe(name).decay, spec.recipe(name).final_learning_rate) for name in spec.scale.experiments}
    assert decays["inception-v3"] == ("linear", 0.005)
    assert decays["squeezenet"] == ("exponential", 6.6e-5)


def test_the_paper_scale_has_every_row_and_figure_of_the_paper():
    spec = load_spec(checkout(), PAPER, "paper")
    # the wide scale alone has these
    wide_alone = {"resnet20-unselected", "resnet20-one-shot"}
    assert set(spec.scale.experiments) == set(spec.experiments) - wide_alone
    assert [figure.figure for figure in spec.paper.figures] == [f"Fig. {number}" for number in range(1, 13)]
    assert {name for figure in spec.paper.figures for name in figure.experiments} == {
        name for name in spec.scale.experiments if not name.endswith("-restarted")
    }
    assert all("paper" in claim.scales for claim in spec.claims)
    for name, network in spec.paper.networks.items():
        assert not network.epochs or network.recipe.steps == 1251 * network.epochs, name


def test_one_shot_densities_are_those_of_the_published_figure():
    spec = load_spec(checkout(), PAPER, "paper")
    rows = list(csv.DictReader((spec.folder / "published" / "fig8.csv").open(encoding="utf-8")))
    for name in ("resnet50", "inception-v3", "squeezenet"):
        found = [row for row in rows if row["experiment"] == name and row["obtained"] == "digitised"]
        published = {float(row["density"]) for row in found} - {1.0}
        pruning = spec.scale.experiments[name].pruning
        assert (set(pruning.densities), pruning.style) == (published, "one_shot")
        assert {1251 * int(row["k"]) for row in found} <= set(spec.scale.experiments[name].rewind_grid())
    found = [row for row in rows if row["experiment"] == "resnet50-iterative" and row["branch"] != "dense"]
    pruning = spec.scale.experiments["resnet50-iterative"].pruning
    assert {float(row["density"]) for row in found} == {round(pruning.density(level), 4) for level in range(1, 15)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pruning": {}}, "experiments.lenet.pruning: fraction, densities: give one of the two"),
        ({"pruning": {"fraction": 0.2, "densities": [0.5]}}, "fraction, densities: give one of the two"),
        ({"pruning": {"densities": [0.5]}}, "densities: [0.5] are one-shot; give style: one_shot, or a fraction"),
        ({"pruning": {"style": "one_shot", "densities": [0.2, 0.5]}}, "densities: [0.2, 0.5] must fall"),
        ({"pruning": {"style": "one_shot", "densities": [0.5]}}, "sweeps: level 5 is past the 1 densities"),
        ({"sweeps": [{"k": [0], "levels": 2, "first_level": 2}]}, "first_level 2 needs one-shot pruning"),
        ({"sweeps": [{"k": [0], "levels": 2, "first_level": 3}]}, "first_level: 3 is past the sweep's last level 2"),
    ],
)
def test_prunings_and_sweeps_that_make_no_sense(papers, change, message):
    edit(papers, "scales/mini.yaml", lambda scale: scale["experiments"]["lenet"].update(change))
    assert message in failure(papers)


def test_a_claim_about_a_branch_that_no_level_trains(papers):
    edit(papers, "claims.yaml", lambda claims: claims[0]["scales"]["mini"]["parts"][0]["a"].update(branch="snip"))
    message = failure(papers)
    assert "no level of lenet reaches density 0.107; levels reach none" in message
    assert "snip" in message


def test_random_draws_of_an_experiment_that_draws_elsewhere(papers):
    edit(papers, "experiments.yaml", lambda experiments: experiments["lenet"].update(draws="lenett"))
    assert "experiments.yaml: lenet.draws: 'lenett' is no experiment with random draws of its own" in failure(papers)


def test_a_figure_of_a_missing_experiment(papers):
    edit(papers, "paper.yaml", lambda paper: paper["figures"][0].update(experiments=["vgg"]))
    assert "paper.yaml: figures.0.experiments: 'vgg' is not in experiments.yaml; choose one of" in failure(papers)
    edit(papers, "paper.yaml", lambda paper: paper["figures"][0].update(drawn_in=["accuracy_k"]))
    assert "figures.0.drawn_in.0: Input should be 'accuracy-density'" in failure(papers)


@pytest.mark.parametrize("given", [{"value": 2}, {"value": 0, "source": "x"}, {"value": 2, "source": "x", "y": 1}])
def test_a_threshold_has_a_value_and_a_source(papers, given):
    edit(papers, "paper.yaml", lambda paper: paper.update(stable_below=given))
    assert "paper.yaml: stable_below." in failure(papers)


def test_a_trend_over_k_ends_before_too_few_steps_are_left():
    """C22: random pruning gains with k only while there are steps to train in; C23 is about the rest."""
    spec = load_spec(checkout(), PAPER, "paper")
    (claim,) = [one for one in spec.claims if one.id == "C22"]
    trends = [part for part in claim.scales["paper"].parts if part.statistic == "trend"]
    assert len(trends) == 7
    for part in trends:
        name = part.a.experiment
        assert max(part.over) <= spec.recipe(name).steps / 5, part.name
        assert set(part.over) == {k for k in spec.scale.experiments[name].rewind_grid() if k <= max(part.over)}


def test_no_two_values_of_a_published_curve_stand_at_one_place():
    """The page draws a curve for each figure, branch and k, over density."""
    rows = list(csv.DictReader((checkout() / "papers" / PAPER / "published" / "fig8.csv").open(encoding="utf-8")))
    places = [tuple(row[name] for name in ("figure", "experiment", "branch", "k", "density")) for row in rows]
    assert len(set(places)) == len(places)


def test_an_unknown_field(papers):
    edit(papers, "scales/mini.yaml", lambda scale: scale["experiments"]["lenet"].update(replicate=3))
    assert "mini.yaml: experiments.lenet.replicate: unknown field; did you mean replicates?" in failure(papers)


def test_an_unknown_field_of_a_changed_recipe(papers):
    edit(papers, "scales/mini.yaml", lambda scale: scale["experiments"]["lenet"]["change"].update(batchsize=3))
    assert "mini.yaml: experiments.lenet.change.batchsize: unknown field; did you mean batch_size?" in failure(papers)


def test_a_claim_that_names_a_missing_experiment(papers):
    edit(papers, "claims.yaml", lambda claims: claims[0]["scales"]["mini"]["parts"][0]["a"].update(experiment="lenett"))
    message = failure(papers)
    assert "claims.yaml: C1.scales.mini" in message
    assert "experiment 'lenett' is not in experiments.yaml; choose one of lenet," in message


def test_a_rewind_iteration_past_the_end_of_training(papers):
    edit(papers, "scales/mini.yaml", lambda scale: scale["experiments"]["lenet"]["sweeps"][0].update(k=[0, 2000]))
    assert "k = 2000 is past the end of training (2000 steps); give a k below 2000" in failure(papers)


def test_a_density_that_no_level_reaches(papers):
    edit(papers, "claims.yaml", lambda claims: claims[0]["scales"]["mini"]["parts"][0]["a"].update(density=0.2))
    message = failure(papers)
    assert "no level of lenet reaches density 0.2; levels reach 0.640, 0.410" in message


def test_a_k_that_is_not_run(papers):
    edit(papers, "claims.yaml", lambda claims: claims[0]["scales"]["mini"]["parts"][0]["a"].update(k=7))
    assert "k = 7 is not run for lenet, branch imp; choose one of [0, 20, 100, 400, 1000]" in failure(papers)


def test_a_drop_past_the_end_of_training(papers):
    edit(papers, "scales/mini.yaml", lambda s: s["experiments"]["resnet20-low"]["change"].update(drops=[1500, 9000]))
    assert "drops: 9000 is past the end of training (3000 steps)" in failure(papers)


def test_malformed_yaml_is_named_with_its_line(papers):
    path = papers / "papers" / PAPER / "paper.yaml"
    path.write_text("id: x\ntitle: [unclosed\n")
    assert "paper.yaml: line 3, column 1 is not valid YAML" in failure(papers)


def test_yaml_that_would_build_objects_is_refused(papers):
    path = papers / "papers" / PAPER / "paper.yaml"
    path.write_text("!!python/object/apply:os.system ['true']\n")
    assert "paper.yaml: line 1, column 1 is not valid YAML" in failure(papers)


def test_a_file_of_the_wrong_kind(papers):
    path = papers / "papers" / PAPER / "claims.yaml"
    path.write_text("just text\n")
    assert "claims.yaml: the whole file" in failure(papers)


def test_unknown_papers_and_scales_list_what_there_is():
    with pytest.raises(HarnessError, match="no such paper; choose one of linear-mode-connectivity, missing-the-mark, "):
        load_spec(checkout(), "nope", "mini")
    message = r"nope\.yaml: no such scale; choose one of cifar-short, mini, paper, smoke, wide"
    with pytest.raises(HarnessError, match=message):
        load_spec(checkout(), PAPER, "nope")


def test_a_key_that_stands_twice(papers):
    path = papers / "papers" / PAPER / "experiments.yaml"
    path.write_text(path.read_text() + "lenet:\n  title: again\n  network: lenet\n  question: why\n")
    assert "is not valid YAML: key 'lenet' is duplicated" in failure(papers)


@pytest.mark.parametrize("name", ["Le_Net", "../x", "a b", "x;y"])
def test_names_that_would_be_paths_or_commands(papers, name):
    edit(papers, "experiments.yaml", lambda experiments: experiments.update({name: experiments["lenet"]}))
    assert "a name is lower-case letters, digits and hyphens, and begins with a letter; rename it" in failure(papers)
    with pytest.raises(HarnessError, match=r"--scale .*: a name is lower-case"):
        load_spec(papers, PAPER, name)


def test_a_claim_at_a_scale_that_does_not_exist(papers):
    edit(papers, "claims.yaml", lambda claims: claims[0]["scales"].update(minni=claims[0]["scales"].pop("mini")))
    assert "C1.scales.minni: no such scale; choose one of cifar-short, mini, paper, smoke, wide" in failure(papers)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("figure,experiment", "figure,experimant", "column 'experiment' is missing; add it"),
        ("fig3,lenet,imp", "fig3,lenett,imp", "line 2, experiment: 'lenett' is not in experiments.yaml"),
        (",98.3,", ",98.3%,", "line 2, value: '98.3%' is not a number"),
        (",printed,", ",seen,", "line 2, obtained: 'seen'; choose one of printed"),
    ],
)
def test_published_tables_are_checked(papers, old, new, message):
    path = papers / "papers" / PAPER / "published" / "fig3.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert message in failure(papers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "digitz"}, "experiments.lenet.data: 'digitz' is unknown; choose one of cifar10, digits"),
        ({"network": "resnet20-1d"}, "experiments.lenet.network: a 1-dimensional residual network can't take inputs"),
        ({"network": "lenet"}, "experiments.lenet.network: network 'lenet' is unknown"),
        ({"change": {"batch_size": 5000}}, "experiments.lenet.change.batch_size: 5000 is more than the 1197 training"),
        ({"data": "mnist1d", "change": {"augmentation": "flip_crop"}}, "augmentation: flip_crop needs images"),
    ],
)
def test_settings_that_do_not_fit_each_other(papers, change, message):
    edit(papers, "scales/mini.yaml", lambda scale: scale["experiments"]["lenet"].update(change))
    with pytest.raises(HarnessError) as caught:
        check_settings(load_spec(papers, PAPER, "mini"))
    assert message in str(caught.value)


def test_settings_that_do_not_fit_are_all_told_at_once(papers):
    def misspell(scale):
        setting = scale["experiments"]["lenet"]
        setting |= {"data": "digitz", "pruning": {**setting["pruning"], "criterion": "magnitud"}}

    edit(papers, "scales/mini.yaml", misspell)
    with pytest.raises(HarnessError) as caught:
        check_settings(load_spec(papers, PAPER, "mini"))
    for message in ("mini.yaml: experiments.lenet.pruning.criterion: 'magnitud'", "experiments.lenet.data: 'digitz'"):
        assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_calibration_claim_is_not_gated_by_the_calibration():
    claims = {claim.id: claim for claim in load_spec(checkout(), PAPER, "paper").claims}
    assert [name for name, claim in claims.items() if claim.calibrates] == ["C14"]


PICTURES = {"folder": "pictures", "size": 8}


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("pets", {"folder": "~/pets"}, "data.pets: folder: '~/pets': ~ stands for nothing here; give the full path"),
        ("pets", {"sise": 8}, "data.pets.sise: unknown field; did you mean size?"),
        ("pets", {"size": 0}, "data.pets.size.0: Input should be greater than or equal to 1 (found 0)"),
        ("pets", {"size": 5000}, "data.pets.size.0: 5000 is more than the 4,096 that is possible here"),
        ("pets", {"resize": "pad"}, "data.pets.resize: Input should be 'refuse', 'stretch' or 'crop' (found 'pad')"),
        ("pets", {"pinned": {"train": 5}}, "data.pets.pinned.sha256: this field is missing; add it"),
        ("Pets", {}, "data.Pets: a name is lower-case letters, digits and hyphens"),
    ],
)
def test_a_mistake_in_a_data_set_of_ones_own(papers, name, fields, words):
    edit(papers, "scales/mini.yaml", lambda scale: scale.update(data={name: PICTURES | fields}))
    message = failure(papers)
    assert message.startswith(f"{papers}/papers/{PAPER}/scales/mini.yaml: data.")
    assert words in message


def test_a_data_set_of_ones_own_that_is_not_there_and_one_with_a_name_that_is_taken(papers, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    edit(papers, "scales/mini.yaml", lambda scale: scale.update(data={"mnist": PICTURES, "pets": PICTURES}))
    with pytest.raises(HarnessError) as caught:
        check_settings(load_spec(papers, PAPER, "mini"))
    assert str(caught.value) == (
        f"{papers}/papers/{PAPER}/scales/mini.yaml: data.mnist: the project has a data set of that name; choose "
        f"another; data.pets: {tmp_path}/data/pictures: missing. Put the pictures there, or give their path: in full, "
        "or below HARNESS_DATA"
    )


def test_an_experiment_may_use_a_data_set_of_ones_own_and_no_unknown_one(papers):
    pinned = {"classes": ["ant", "bee"], "train": 100, "test": 10, "sha256": "0" * 64}

    def own(scale):
        scale["data"] = {"pets": PICTURES | {"channels": 1, "pinned": pinned}}
        scale["experiments"] = {"lenet": scale["experiments"]["lenet"] | {"data": "pets"}}

    edit(papers, "scales/smoke.yaml", own)
    check_settings(load_spec(papers, PAPER, "smoke"))  # LeNet's batch of 60 is not more than 90 samples
    edit(papers, "scales/smoke.yaml", lambda scale: scale["data"]["pets"]["pinned"].update(train=60))
    with pytest.raises(HarnessError, match="60 is more than the 54 training samples of pets; give a smaller one"):
        check_settings(load_spec(papers, PAPER, "smoke"))
    edit(papers, "scales/smoke.yaml", lambda scale: scale["experiments"]["lenet"].update(data="pet"))
    with pytest.raises(HarnessError, match=r"lenet\.data: 'pet' is unknown; choose one of pets, cifar10, digits"):
        check_settings(load_spec(papers, PAPER, "smoke"))
