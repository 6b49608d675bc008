import threading

import pytest

from streamdyn.errors import ConfigError, StreamdynError, UnknownName
from streamdyn.registry import build, parts, policy, recognizer


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("policy", {"agreement", "bisect", "keyframe", "random", "stride"}),
        ("source", {"synthetic", "video_av"}),
        ("recognizer", {"brightness", "lite0"}),
        ("sink", {"sqlite"}),
    ],
)
def test_built_in_parts_are_found_by_walking_their_package(kind, some):
    assert some <= parts(kind).keys()
    assert list(parts(kind)) == sorted(parts(kind))


def test_an_unknown_name_lists_what_would_have_worked():
    with pytest.raises(UnknownName) as caught:
        build("policy", "bisekt")
    said = str(caught.value)
    assert said.startswith("no policy is called 'bisekt' (did you mean 'bisect'?); known: adaframe")
    assert all(name in said for name in parts("policy"))
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, StreamdynError)


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(UnknownName, match=r"no source is called 'qqq'; known: "):
        build("source", "qqq")


def test_an_unknown_option_lists_those_of_the_part():
    with pytest.raises(
        UnknownName,
        match=r"no option of policy stride is called 'evry' \(did you mean 'every'\?\); "
        "known: every, lookahead, offset",
    ):
        build("policy", "stride", evry=3)


def test_an_option_of_a_part_without_options_is_named():
    with pytest.raises(UnknownName, match="no option of recognizer brightness is called 'size'"):
        build("recognizer", "brightness", size=3)


def test_a_value_that_the_part_refuses_keeps_its_words():
    with pytest.raises(ConfigError, match="stride needs every >= 1 and offset >= 0"):
        build("policy", "stride", every=0)


def test_a_value_of_another_type_names_the_part():
    with pytest.raises(ConfigError, match=r"cannot build policy 'stride': .*str"):
        build("policy", "stride", every="often")


def test_a_missing_option_names_the_part():
    with pytest.raises(ConfigError, match=r"cannot build source 'video_av': .*'path'"):
        build("source", "video_av")


def test_options_may_be_called_kind_and_name(own_registry):
    @policy("named")
    class Named:
        def __init__(self, *, kind, name):
            self.options = kind, name

    assert build("policy", "named", kind="a", name="b").options == ("a", "b")


def test_two_parts_cannot_claim_one_name(own_registry):
    @policy("mine")
    class Mine: ...

    with pytest.raises(
        ConfigError, match="two parts claim the policy name 'mine': test_registry and test_registry"
    ):

        @policy("mine")
        class Other: ...

    assert parts("policy")["mine"] is Mine


def test_a_stranger_with_the_class_name_of_ours_does_not_take_our_place(own_registry):
    ours = parts("policy")["stride"]

    class Stride: ...

    Stride.__qualname__ = ours.__qualname__
    with pytest.raises(ConfigError, match=r"'stride': streamdyn\.agents\.stride and test_registry"):
        policy("stride")(Stride)
    assert parts("policy")["stride"] is ours


def test_a_module_that_is_loaded_again_replaces_its_own_part(own_registry):
    def define():
        @policy("again")
        class Again: ...

        return Again

    define()
    newer = define()
    assert parts("policy")["again"] is newer


def test_the_same_name_may_be_a_policy_and_a_recognizer(own_registry):
    @policy("both")
    class APolicy: ...

    @recognizer("both")
    class ARecognizer: ...

    assert isinstance(build("policy", "both"), APolicy)
    assert isinstance(build("recognizer", "both"), ARecognizer)


def test_what_is_handed_out_is_a_copy():
    parts("policy").clear()
    assert "stride" in parts("policy")


def test_threads_may_build_at_the_same_time():
    found, start = [], threading.Barrier(8)

    def work():
        start.wait()
        found.append(build("policy", "stride", every=7).every)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 8
