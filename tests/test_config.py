from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.config_reading import first_difference, read_values
from automl.families import study_class
from automl.sam.config import StudyConfig, check_config, load_config
from search_spaces import InputError

QUICK_START = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


@pytest.mark.parametrize("path", sorted(QUICK_START.parent.glob("*.yaml")), ids=lambda p: p.stem)
def test_what_ships_is_a_valid_configuration(path: Path) -> None:
    values, where = read_values(path, [])
    kind = study_class(values, where)
    config = kind.check(values, where)
    assert kind.check(config.model_dump(mode="json"), "here") == config
    if isinstance(config, StudyConfig):
        assert config.final.steps >= config.designs.steps


def test_overrides_reach_any_depth_and_change_the_hash() -> None:
    plain = load_config(QUICK_START, [])
    changed = load_config(QUICK_START, ["training.augment.flip=false", "seed=3"])
    assert changed.training.augment.flip is False
    assert changed.seed == 3
    assert changed.key != plain.key


def test_where_a_study_runs_and_logs_changes_no_hash() -> None:
    overrides = ["resources.evaluators=2", "tracking.uri=sqlite:///elsewhere.db"]
    assert load_config(QUICK_START, overrides).key == load_config(QUICK_START, []).key


def test_the_written_form_is_read_back_equal() -> None:
    config = load_config(QUICK_START, ["constraints.encoder_params=50%"])
    assert check_config(config.model_dump(mode="json"), "here") == config


def test_a_floor_can_be_given_on_the_command_line() -> None:
    for text in (">=30%", "<=50%", "30%..50%", ">=3000000"):
        config = load_config(QUICK_START, [f"constraints.encoder_params={text}"])
        assert config.constraints == {"encoder_params": text}


def test_the_searcher_changes_the_hash() -> None:
    plain = load_config(QUICK_START, [])
    assert plain.search.searcher == "hyperopt"
    assert load_config(QUICK_START, ["search.searcher=tpe"]).key != plain.key


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("modle=vit_t", ["modle", "known here", "model, checkpoint"]),
        ("training.lr=1", ["training.lr", "learning_rate"]),
        ("training.augment.flop=1", ["training.augment.flop", "flip"]),
        ("training.batch_size=0", ["training.batch_size", "greater than or equal to 1", "0"]),
        ("prompts=scribble", ["prompts", "'box', 'point', 'centre' or 'mixed'", "scribble"]),
        ("model=vit_x", ["model", "vit_x", "vit_t, vit_b"]),
        ("image_size=250", ["image_size", "250", "16"]),
        ("designs.space.metric=[luck]", ["designs.space.metric", "luck", "wanda"]),
        ("designs.space.protected=[12]", ["designs.space.protected", "12", "0 to 11"]),
        ("designs.space.smallest_heads=[0]", ["designs.space.smallest_heads", "greater than 0"]),
        ("designs.space.protect_above=2", ["designs.space.protect_above", "less than", "2"]),
        ("designs.space.probabilities={12: 0.5}", ["space.probabilities", "12", "0 to 11"]),
        ("designs.space.probabilities={1: 1.0}", ["space.probabilities.1", "less than 1"]),
        ("designs.space.probabilities={1: [0, 1.5]}", ["probabilities.1.values.1", "less than 1"]),
        (
            f"designs.space.probabilities={ {layer: [0, 0.5] for layer in range(12)} }",
            ["space.probabilities", "each of the 12 layers", "leave one out"],
        ),
        ("designs.reduction=1", ["designs.reduction", "greater than or equal to 2", "1"]),
        ("designs.space.probabilities={one: 0.5}", ["space.probabilities", "integer", "one"]),
        (
            f"designs.space.probabilities={dict.fromkeys(range(12), 0.5)}",
            ["space.probabilities", "each of the 12 layers", "leave one out"],
        ),
        ("prioritise.worth=dice", ["prioritise.worth", "'miou' or 'embedding'", "dice"]),
        ("search.searcher=luck", ["search.searcher", "luck", "hyperopt, nsga2, tpe, random"]),
        ("final.steps=2", ["final.steps", "designs.steps"]),
        ("resources.train_workers=3", ["training.batch_size", "train_workers"]),
        ("seed", ["'seed'", "KEY=VALUE"]),
        ("training=[1", ["command line"]),
    ],
)
def test_a_mistake_is_one_line_that_names_key_and_remedy(override: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_config(None if override == "training=[1" else QUICK_START, [override])
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_fewer_heads_than_a_family_can_have_are_refused_in_one_line(tmp_path: Path) -> None:
    example = QUICK_START.parent.parent / "examples" / "own_family.py"
    (tmp_path / "single.py").write_text(
        "from trainables.sam.vit import ViTConfig\nONE = ViTConfig(64, (8,), 8, 1, (0,))\n"
    )
    for model in (f"{example}:SMALL", f"{tmp_path / 'single.py'}:ONE"):
        load_config(QUICK_START, [f"model={model}", "designs.space.smallest_heads=[1.0]"])
        with pytest.raises(
            InputError, match=r"designs\.space\.smallest_heads: .* has no"
        ) as caught:
            load_config(QUICK_START, [f"model={model}", "designs.space.smallest_heads=[1.0, 0.5]"])
        assert model in str(caught.value)
        assert "\n" not in str(caught.value)
    config = load_config(QUICK_START, ["designs.space.smallest_heads=[0.5]"])
    assert config.designs.space.has_elastic_heads


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", [0.3]), ("removable", [1]), ("protected", [0]), ("protect_above", 0.5)],
)
def test_what_given_probabilities_leave_without_effect_is_refused(name: str, value: object) -> None:
    given = {"probabilities": {"1": 0.5}}
    config = check_config({"designs": {"space": given}}, "here")
    assert config.designs.space.probabilities == {1: 0.5}
    assert check_config(config.model_dump(mode="json"), "here") == config
    with pytest.raises(InputError, match=rf"designs\.space\.{name} has no effect") as caught:
        check_config({"designs": {"space": {**given, name: value}}}, "here")
    assert "\n" not in str(caught.value)


def test_probabilities_can_be_given_on_the_command_line() -> None:
    for override in ("probabilities.2=0.25", "probabilities={2: 0.25}"):
        config = load_config(QUICK_START, [f"designs.space.{override}"])
        assert config.designs.space.probabilities == {2: 0.25}


def test_a_layer_that_may_stay_for_sure_needs_no_more_than_one_value() -> None:
    given = {str(layer): [0.0, 0.5] for layer in range(11)} | {"11": [0.0]}
    config = check_config({"designs": {"space": {"probabilities": given}}}, "here")
    assert config.designs.space.probabilities[0] == [0.0, 0.5]
    assert check_config(config.model_dump(mode="json"), "here") == config
    assert len(config.designs.space.choices()) == 5 + 11


def test_a_file_that_is_no_table_or_no_yaml_is_named(tmp_path: Path) -> None:
    for text in ("- a\n- b\n", "a: [1", "{"):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(InputError, match=r"mine\.yaml"):
            load_config(path, [])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml does not exist"):
        load_config(tmp_path / "none.yaml", [])


def test_the_first_difference_is_named_with_both_values() -> None:
    mine = StudyConfig()
    other = check_config({"training": {"batch_size": 8}}, "there")
    assert first_difference(mine, other) == ("training.batch_size", 4, 8)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda s: (
            st.lists(s)
            | st.dictionaries(
                st.sampled_from(["model", "seed", "training", "designs", "space", "x"]),
                s,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_whatever_stands_in_a_file_is_taken_or_refused_in_one_line(value: object) -> None:
    if not isinstance(value, dict):
        value = {"seed": value}
    try:
        assert isinstance(check_config(value, "here"), StudyConfig)
    except InputError as error:
        assert "\n" not in str(error)
