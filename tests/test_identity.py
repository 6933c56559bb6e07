"""Which settings make another run: every key of every file in conf/ on one side or the other."""

import copy

import pytest
import yaml
from omegaconf import OmegaConf

from limbeck.configured import CONF
from limbeck.identity import counted, difference, file_content, judged
from limbeck.kinds import leaves

# By hand, from what each group is for; True: another value makes another student.
GROUPS = {
    "teacher": True,
    "pruning": True,
    "initializer": True,
    "distillation": True,
    "companion": True,
    "loss.generator": True,
    "loss.discriminator": True,
    "discriminator": True,
    "optimizer": True,
    "data": True,
    "trainer": False,
    "callback": False,
    "logger": False,
    "metric": False,
    "protocol": False,
    "runtime": False,
}
EXCEPTIONS = {"num_workers", "log_every_kimg", "latency"}
TOP = {
    "kimg": True,
    "batch_size": True,
    "seed": True,
    "checkpoint_kimg": False,
    "forecast_steps": False,
    "objective": False,
    "resume": False,
    "run_name": False,
}
FILES = [path for group in GROUPS for path in sorted((CONF / group.replace(".", "/")).glob("*.yaml"))]


def settings(path):
    """The file's own content where the composed configuration has it."""
    node = yaml.safe_load(path.read_text())
    node.pop("defaults", None)
    place = ".".join(path.relative_to(CONF).parent.parts)
    container = OmegaConf.to_container(OmegaConf.create({}))
    inner = container
    for name in place.split(".")[:-1]:
        inner = inner.setdefault(name, {})
    inner[place.rpartition(".")[2]] = node
    return place, container


def changed(tree, key):
    tree = copy.deepcopy(tree)
    node, (*way, last) = tree, key.split(".")
    for name in way:
        node = node[int(name) if isinstance(node, list) else name]
    last = int(last) if isinstance(node, list) else last
    value = node[last]
    node[last] = (
        (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else f"{value}x"
    )
    return tree


def test_no_group_of_a_run_is_forgotten():
    repeated = {"allocation", "mask", "experiment"}
    lines = [
        line
        for node in yaml.safe_load((CONF / "train.yaml").read_text())["defaults"]
        if node != "_self_"
        for line in node
    ]
    offered = {line for line in lines if isinstance(line, str) and not line.startswith("override") and len(line) > 1}
    assert offered - repeated == {group.replace(".", "/") for group in GROUPS}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONF)))
def test_every_key_of_every_group_is_on_the_right_side(path):
    place, before = settings(path)
    for key, _ in leaves(before):
        after = changed(before, key)
        content = ({"teacher": "a", "data": "a", key: "a"}, {"teacher": "b", "data": "b", key: "b"})
        found = difference(counted(before), counted(after), default={}, content=content)
        name = key.rpartition(".")[2]
        expected = GROUPS[place] and name not in EXCEPTIONS
        if place == "callback" and name == "_target_":
            continue  # a callback of another package may do anything
        if expected:
            assert found is not None, key
            assert found[0] == key
        else:
            assert found is None or found[0] in ("teacher", "data"), key
        assert (judged(before) != judged(after)) == (place in ("metric", "protocol", "runtime")), key


def test_every_top_level_number_of_a_run_is_on_the_right_side():
    before = {
        k: v for k, v in yaml.safe_load((CONF / "train.yaml").read_text()).items() if not isinstance(v, dict | list)
    }
    assert before.keys() == TOP.keys()
    for key, expected in TOP.items():
        found = difference(counted(before), counted(changed(before, key)), default={})
        assert (found is not None) == expected, key
        assert found is None or found[0] == key


RUN = {"seed": 0, "pruning": {"ratio": 0.5}, "teacher": {"path": "a.pkl"}, "data": {"path": "x.zip", "mirror": True}}


def test_the_first_key_that_differs_comes_with_both_values():
    now = copy.deepcopy(RUN) | {"pruning": {"ratio": 0.7}}
    assert difference(counted(RUN), counted(now), default={}) == ("pruning.ratio", 0.5, 0.7)


def test_a_new_key_at_its_default_changes_nothing_and_a_lost_one_does():
    now = copy.deepcopy(RUN)
    now["pruning"]["round_to"] = 8
    key = "pruning.round_to"
    assert difference(counted(RUN), counted(now), default={key: 8}) is None
    assert difference(counted(RUN), counted(now), default={key: 1}) == (key, "not set", 8)
    assert difference(counted(now), counted(RUN), default={key: 8}) == (key, 8, "not set")


def test_a_term_that_was_not_chosen_is_no_new_key():
    """It stands in the defaults of the command that chooses it now."""
    before = {"loss": {"generator": {"nonsaturating": {"weight": 1.0}}}}
    now = {"loss": {"generator": {"nonsaturating": {"weight": 1.0, "batch_share": 1.0}, "lpips": {"weight": 3.0}}}}
    key = "loss.generator.lpips.weight"
    assert difference(counted(before), counted(now), default=counted(now)) == (key, "not set", 3.0)
    assert difference(judged({}), judged({"metric": {"x": {"a": 1}}}), default={"metric.x.a": 1})[0] == "metric.x.a"


def test_files_count_by_content():
    moved = copy.deepcopy(RUN)
    moved["teacher"]["path"], moved["data"]["path"] = "elsewhere.pkl", "elsewhere.zip"
    same = {"teacher": "t", "data": "d"}

    def found(saved, now):
        return difference(counted(RUN), counted(moved), default={}, content=(saved, now))

    assert found(same, same) is None
    assert found(same, {**same, "data": "e"}) == ("data.path", "x.zip", "elsewhere.zip")
    assert found({}, same) == ("teacher.path", "a.pkl", "elsewhere.pkl")  # a run of before contents were kept
    assert difference(counted(RUN), counted(moved), default={}) is None  # not known yet
    replaced = difference(counted(RUN), counted(RUN), default={}, content=(same, {**same, "teacher": "u"}))
    assert replaced == ("teacher", "content t…", "content u…")


def test_files_that_losses_name_are_hashed(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"abc")
    key = "loss.generator.lpips.term.trunk_path"
    found = {"loss": {"generator": {"lpips": {"term": {"trunk_path": str(file)}}}}, "teacher": {"path": str(file)}}
    sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_content(found) == {key: sha256_of_abc}


def test_callbacks_count_unless_they_only_watch():
    watching = {"callback": {"progress": {"_target_": "limbeck.callbacks.progress.Progress"}}}
    acting = {"callback": {"mine": {"_target_": "mine.Acts", "strength": 1}}}
    assert difference(counted({}), counted(watching), default={}) is None
    assert difference(counted(acting), counted({}), default={}) == ("callback.mine._target_", "mine.Acts", "not set")
