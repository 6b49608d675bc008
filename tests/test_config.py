import json

import pytest

from streamdyn.audit import AuditRule
from streamdyn.budget import Budget
from streamdyn.config import PartConfig, RunConfig, load_config, parse_part, with_target
from streamdyn.errors import ConfigError, UnknownName

TOML = """
audit = 0.02
seed = 5
propagation = "forward"
[policy]
name = "stride"
every = 12
[recognizer]
name = "brightness"
[budget]
share = 0.25
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(TOML)
    return path


def test_a_file_sets_parts_and_options(file):
    config = load_config(file)
    assert config.build_policy().every == 12
    assert config.build_recognizer().name == "brightness"
    assert config.build_budget() == Budget(share=0.25)
    assert config.build_audit() == AuditRule(0.02, 5)
    assert config.propagation == "forward"


def test_without_a_file_the_defaults_hold():
    config = load_config(None)
    assert config == RunConfig()
    assert (config.policy.name, config.recognizer.name, config.source.name) == (
        "agreement", "lite0", "video_av",
    )  # fmt: skip
    source = config.build_source("a.mp4", "id")
    assert (source.path, source.stream, source.on_corrupt) == ("a.mp4", "id", "skip")


def test_an_override_of_the_same_part_keeps_its_other_options(file):
    config = load_config(file, {"policy": {"offset": 3}, "budget": {"items": 9}})
    policy = config.build_policy()
    assert (policy.every, policy.offset) == (12, 3)
    assert config.build_budget() == Budget(share=0.25, items=9)
    named = load_config(file, {"policy": {"name": "stride", "offset": 3}})
    assert named.policy.options == {"every": 12, "offset": 3}


def test_an_override_with_another_part_drops_options_that_are_not_its_own(file):
    config = load_config(file, {"policy": {"name": "bisect"}})
    assert config.policy.options == {}
    assert config.build_policy().name == "bisect"


def test_an_option_of_the_source_leaves_its_other_defaults(tmp_path):
    given = load_config(None, {"source": {"name": "video_av", "threads": 2}})
    path = tmp_path / "run.toml"
    path.write_text("[source]\nthreads = 2\n")
    assert load_config(path) == given
    assert given.source.options == {"on_corrupt": "skip", "threads": 2}
    other = load_config(None, {"source": {"name": "audio"}})
    assert other.source.options == {}


def test_an_override_wins_over_the_file(file):
    assert load_config(file, {"audit": 0.5}).audit == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("audt = 0.1", "audt: Extra inputs are not permitted; keys are: source, policy,"),
        ("audit = 2", "audit: Input should be less than or equal to 1"),
        ("audit = 'often'", "audit: Input should be a valid number"),
        ("propagation = 'sideways'", "propagation: Input should be 'two-sided' or 'forward'"),
        ("[policy]\nevery = 3", r"policy\.name: Field required"),
        ("[budget]\nshares = 0.1", r"budget\.shares: Extra inputs are not permitted"),
        ("policy = 'stride'", "policy: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_place(tmp_path, text, said):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"audit = ", b"\xff\xfe", b"[policy\n"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"cannot read the configuration {path}"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*none\.toml"):
        load_config(tmp_path / "none.toml")


def test_an_unknown_part_or_option_is_found_when_it_is_built():
    with pytest.raises(UnknownName, match="no policy is called 'haltng'"):
        load_config(None, {"policy": {"name": "haltng"}}).build_policy()
    with pytest.raises(UnknownName, match="no option of policy bisect is called 'every'"):
        load_config(None, {"policy": {"name": "bisect", "every": 3}}).build_policy()
    with pytest.raises(ConfigError, match=r"budget share must be in \(0, 1\]"):
        load_config(None, {"budget": {"share": 7}}).build_budget()


def test_the_hash_changes_with_all_that_outcomes_depend_on_and_with_nothing_else():
    plain = RunConfig()
    changes = [
        {"policy": {"name": "agreement", "target": 0.9}},
        {"policy": {"name": "bisect"}},
        {"recognizer": {"name": "lite0", "resolution": 128}},
        {"source": {"name": "video_av", "on_corrupt": "raise"}},
        {"budget": {"share": 0.5}},
        {"audit": 0.1},
        {"seed": 1},
        {"propagation": "forward"},
    ]
    hashes = {load_config(None, change).hash for change in changes}
    assert len(hashes | {plain.hash}) == len(changes) + 1
    assert load_config(None, {"device": "cuda"}).hash == plain.hash
    assert load_config(None, {}).hash == plain.hash


def test_the_order_of_options_does_not_change_the_hash():
    left = load_config(None, {"policy": {"name": "stride", "every": 3, "offset": 1}})
    right = load_config(None, {"policy": {"offset": 1, "every": 3, "name": "stride"}})
    assert left.hash == right.hash


def test_an_option_of_any_toml_type_has_a_hash(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[policy]\nname = "stride"\nevery = 2026-01-01\n')
    assert len(load_config(path).hash) == 16


def test_a_target_wraps_the_policy_or_sets_that_of_agreement():
    stride = load_config(None, {"policy": {"name": "stride", "every": 9}})
    policy = with_target(stride, 0.9).build_policy()
    assert (policy.name, policy.inner, policy.options, policy.target) == (
        "agreement", "stride", {"every": 9}, 0.9,
    )  # fmt: skip
    tuned = load_config(None, {"policy": {"name": "agreement", "inner": "change", "step": 0.1}})
    policy = with_target(tuned, 0.8).build_policy()
    assert (policy.inner, policy.step, policy.target) == ("change", 0.1, 0.8)
    with pytest.raises(ConfigError, match="it has no knob"):
        with_target(load_config(None, {"policy": {"name": "uniform_k"}}), 0.9)


def test_a_configuration_comes_back_from_json(file):
    config = load_config(file)
    again = RunConfig.model_validate(json.loads(json.dumps(config.model_dump())))
    assert (again, again.hash) == (config, config.hash)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("stride", {"name": "stride"}),
        ("stride:", {"name": "stride"}),
        ("bisect:max_doubt=12.5,min_gap=2", {"name": "bisect", "max_doubt": 12.5, "min_gap": 2}),
        ("shot:cuts=luma", {"name": "shot", "cuts": "luma"}),
        ("x:a=true,b='1',c=", {"name": "x", "a": True, "b": "1", "c": ""}),
        ("hf: model = org/name-1 , top = 3", {"name": "hf", "model": "org/name-1", "top": 3}),
        ("x:url=http://h:1/p?q=2", {"name": "x", "url": "http://h:1/p?q=2"}),
        ('x:a=["b,c", "d"],e=1', {"name": "x", "a": ["b,c", "d"], "e": 1}),
        ("x:a={b=1, c=[2, 3]},d=it's", {"name": "x", "a": {"b": 1, "c": [2, 3]}, "d": "it's"}),
    ],
)
def test_a_part_is_read_from_one_word_with_options(text, table):
    assert parse_part(text) == table


def test_an_option_without_a_value_is_named():
    with pytest.raises(ConfigError, match=r"wrong option 'fast' of part 'x:a=1,fast': .* no '='"):
        parse_part("x:a=1,fast")


def test_a_part_can_be_given_more_than_its_options():
    part = PartConfig(name="stride", every=3)
    assert part.build("policy", offset=2).offset == 2
    assert part.build("policy", every=9).every == 9
