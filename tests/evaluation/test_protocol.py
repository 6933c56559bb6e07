import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limbeck.embeddings.inception import Inception
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.errors import UserError
from limbeck.evaluation.protocol import protocol_lines
from limbeck.evaluation.sampling import sample
from limbeck.metrics.base import Metric
from limbeck.metrics.frechet import FrechetDistance
from limbeck.metrics.ssim import Ssim

from .conftest import NoiseSource, all_metrics, protocol, tiny_denoiser, tiny_model


class Asks(Metric):
    """Hands the samples to a function."""

    def __init__(self, question) -> None:
        super().__init__()
        self.question = question

    def update(self):
        """Nothing to add."""

    def compute(self):
        return {}

    def of(self, samples):
        return self.question(samples) or {}

    def describe(self):
        return {"estimator": "none"}


def test_every_metric_answers_and_the_call_repeats(model, source):
    first = protocol()(model, data=source, teacher=tiny_model(1))
    assert list(first) == [
        "kid_random", "kid_random_se", "frechet_random", "precision_random", "recall_random", "density_random",
        "coverage_random", "perceptual_random",
    ]  # fmt: skip
    torch.randn(3)
    assert protocol()(model, data=source, teacher=tiny_model(1)) == first
    other = protocol(seed=1)(model, data=source, teacher=tiny_model(1))
    assert all(other[name] != first[name] for name in ("kid_random", "frechet_random", "perceptual_random"))
    assert "perceptual_random" not in protocol()(model, data=source)


def test_features_are_those_of_the_sampled_images_in_eight_bits(model, source):
    embedding, found = RandomProjection(), {}
    question = Asks(lambda samples: found.update(features=samples.features(embedding)))
    protocol({"asks": question}, seed=3)(model, data=source)
    image = ((sample(model, 45, seed=3, batch_size=8) + 1) * 127.5).round() / 127.5 - 1
    assert torch.allclose(found["features"], embedding.load()(image), atol=1e-6)
    protocol({"asks": question}, seed=3, quantize=False)(model, data=source)
    assert torch.allclose(found["features"], embedding(sample(model, 45, seed=3, batch_size=8)), atol=1e-6)


def test_pairs_share_their_latents(model, source):
    def distance(student, teacher, embedding):
        assert embedding.layers is not None
        return (student - teacher).flatten(1).abs().amax(dim=1)

    def question(samples):
        return {"difference": float(samples.paired(distance, RandomProjection(), num_images=20).max())}

    same = tiny_model()
    noisy = protocol({"asks": Asks(question)}, noise="random")
    assert noisy(model, data=source, teacher=same) == {"difference": 0}
    assert noisy(model, data=source, teacher=tiny_model(1))["difference"] > 0.1


def test_an_embedding_is_computed_once_and_only_if_asked(model, source):
    embeddings = [RandomProjection(), RandomProjection()]  # equal settings, as the configuration makes them
    shapes = []
    handle = model.generator.register_forward_hook(lambda *arguments: shapes.append(len(arguments[2])))

    def question(samples):
        assert samples.features(embeddings[0]) is samples.features(embeddings[1])
        assert samples.reference_features(embeddings[0]) is samples.reference_features(embeddings[1])

    protocol({"asks": Asks(question)})(model, data=source)
    assert shapes == [8, 8, 8, 8, 8, 5]
    assert embeddings[1].layers is None
    assert source.images.read == 60
    shapes.clear()
    protocol({"asks": Asks(lambda _: {})})(model, data=source)
    assert shapes == []
    handle.remove()


def test_images_too_many_to_keep_are_drawn_again(model, source, monkeypatch):
    kept = protocol()(model, data=source, teacher=tiny_model(1))
    monkeypatch.setattr("limbeck.evaluation.samples.KEPT_MIB", 0)
    assert protocol()(model, data=source, teacher=tiny_model(1)) == kept


def test_progress_is_told(model, source):
    told = []
    protocol()(model, data=source, on_progress=lambda *facts: told.append(facts))
    assert ("images, random_projection", 45, 45) in told
    assert ("reference, random_projection", 60, 60) in told
    assert all(done <= total for _, done, total in told)


def test_a_name_given_twice_is_refused(model, source):
    twice = {
        "a": FrechetDistance(embedding=RandomProjection()),
        "b": FrechetDistance(embedding=RandomProjection(seed=1)),
    }
    with pytest.raises(UserError, match=r"metric.b: another metric gives frechet_random"):
        protocol(twice)(model, data=source)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_images": 0},
        {"noise": "loud"},
        {"batch_size": 0},
        {"num_reference": 0},
        {"steps": 0},
        {"grid": "cubic"},
        {"eta": 1.5},
        {"clip_sample": "perhaps"},
        {"quantize": "perhaps"},
        {"keep_drawn": "perhaps"},
    ],
)
def test_impossible_settings_are_refused_by_name(model, source, wrong):
    with pytest.raises(UserError, match=f"protocol.{next(iter(wrong))}="):
        protocol(**wrong)(model, data=source)


@pytest.mark.parametrize(
    ("settings", "name", "counts"),
    [
        ({"num_images": 5}, "prdc_random", "60 and 5"),
        ({"num_reference": 1}, "kid_random", "1 and 45"),
        ({"num_images": 1}, "frechet_random", "60 and 1"),
    ],
)
def test_too_few_images_are_found_before_anything_is_drawn(model, source, settings, name, counts):
    judge = protocol({name: all_metrics()[name]}, **settings)
    for use in (lambda: judge.check(model.generator, source), lambda: judge(model, data=source)):
        with pytest.raises(UserError, match=rf"metric.{name}: .*needs at least .* there are {counts}"):
            use()
    assert source.images.read == 0


def test_missing_weights_are_found_before_anything_is_drawn(model, source):
    missing = protocol({"fid": FrechetDistance(embedding=Inception(path="nowhere.pth"), name="fid")})
    for use in (missing.check, lambda: missing(model, data=source)):
        with pytest.raises(UserError, match=r"embeddings.inception.path: nowhere.pth: no such file"):
            use()
    assert source.images.read == 0


def test_the_description_names_everything_and_is_json(source):
    facts = json.loads(json.dumps(protocol(num_reference=50, noise="random").describe(source)))
    assert (facts["num_images"], facts["num_reference"], facts["noise"], facts["seed"]) == (45, 50, "random", 0)
    assert "noise a" in facts["reference"]
    assert "8 bits" in facts["images"]
    assert set(facts["metrics"]) == set(all_metrics())
    assert all("weights_sha256" in metric and "resize" in metric for metric in facts["metrics"].values())
    lines = protocol_lines(facts)
    assert len(lines) == 5
    assert lines[0].startswith("45 images (seed 0, noise random")


def test_a_network_reads_and_is_described_by_its_own_familys_settings(model, source):
    settings = {"steps": 5, "grid": "quadratic", "eta": 0.5, "noise": "random"}
    asked, denoiser = protocol({"ssim": Ssim()}, **settings), tiny_denoiser()
    facts = asked.describe(source, denoiser.generator)
    assert {"steps": 5, "grid": "quadratic", "eta": 0.5}.items() <= facts.items()
    assert not {"noise", "truncation"} & set(facts)
    shown = "45 images (seed 0, steps 5, grid quadratic, eta 0.5, clip_sample False, batch_size 8;"
    assert protocol_lines(facts)[0].startswith(shown)
    assert asked.how(model.generator) == {"noise": "random", "truncation": 1.0}
    assert asked(denoiser, data=source, teacher=denoiser) == {"ssim": pytest.approx(1)}
    (other,) = protocol({"ssim": Ssim()}, **{**settings, "steps": 7})(
        tiny_denoiser(1), data=source, teacher=denoiser
    ).values()
    assert other < 0.99
    assert "take" not in "".join(model.generator.cost_notes(**asked.how(model.generator)))
    assert "takes 5 of them" in denoiser.generator.cost_notes(**asked.how(denoiser.generator))[0]


WORKER = """
import sys, json, datetime
import torch, torch.distributed as dist
sys.path.insert(0, sys.argv[1])
from conftest import NoiseSource, protocol, tiny_model
rank, world, meeting = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=world,
                        timeout=datetime.timedelta(seconds=200))
source, shapes, model = NoiseSource(), [], tiny_model()
model.generator.register_forward_hook(lambda *arguments: shapes.append(len(arguments[2])))
values = protocol(noise="random")(model, data=source, teacher=tiny_model(1))
print(json.dumps({"values": values, "drawn": sum(shapes), "read": source.images.read}))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_share_the_work_and_agree_with_one(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = protocol(noise="random")(tiny_model(), data=NoiseSource(), teacher=tiny_model(1))
    torch.set_num_threads(threads)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "other")}

    def start(rank: int) -> subprocess.Popen:
        arguments = [Path(__file__).parent, rank, 2, tmp_path / "meeting"]
        command = [sys.executable, "-c", WORKER, *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    with start(0) as first, start(1) as second:
        answers = [json.loads(process.communicate(timeout=250)[0].splitlines()[-1]) for process in (first, second)]
    assert all(answer["values"] == expected for answer in answers)
    assert sorted(answer["drawn"] for answer in answers) == [21, 24]
    assert sorted(answer["read"] for answer in answers) == [28, 32]
