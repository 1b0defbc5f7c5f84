"""FID and IS against torch-fidelity, pytorch-fid and known answers."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import torch
import torch_fidelity
from pytorch_fid import inception as pytorch_fid
from torch import nn

from inpaint_lib.evaluation import fid


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random state dict of the 2015-12-05 Inception, as a weights file."""
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = fid.parts_of_inception()
        for p in network.parameters():
            if p.ndim > 1:
                torch.nn.init.kaiming_normal_(p)
        network.fc.weight.data.mul_(3)
        torch.save(network.state_dict(), path)
    return path


def pictures(n, seed, size=299):
    """Smooth pictures, (n, size, size, 3) uint8, brighter for larger seeds."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (n, 6, 6, 3)).repeat(-(-size // 6), 1).repeat(-(-size // 6), 2)[:, :size, :size]
    return (coarse + rng.integers(0, 30 + 25 * seed, (n, size, size, 3))).clip(0, 255).astype(np.uint8)


class ScaledAsTensorFlow(nn.Module):
    """x / 127.5 - 1 -> x / 128 - 1."""

    def forward(self, images):
        return (images + 1) * (127.5 / 128) - 1


class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, k):
        return self.images[k]


@pytest.mark.parametrize("seed", range(20))
def test_the_distance_of_equal_sets_is_zero_and_never_below(seed):
    found = fid.statistics(np.random.default_rng(seed).normal(size=(40, 64)) * 10)
    assert 0 <= fid.distance(found, found)[0] < 1e-4


def test_fid_and_is_match_torch_fidelity(weights):
    one, other = pictures(16, 0), pictures(16, 1)
    extractor = fid.inception(weights)
    scaled = nn.Sequential(ScaledAsTensorFlow(), extractor.network)  # the only thing in which the two differ
    extractor = dataclasses.replace(extractor, network=scaled)
    (f1, _), (f2, logits) = (fid.features(extractor, images, 4) for images in (one, other))
    assert f1.shape == (16, 2048) and logits.shape == (16, 1008)
    ours = fid.distance(fid.statistics(f2), fid.statistics(f1))[0], fid.inception_score(logits)
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(other), input2=Images(one), fid=True, isc=True, isc_splits=fid.SPLITS, samples_shuffle=False, cuda=False,
        feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(weights),
        batch_size=4, verbose=False, cache=False,
    )  # fmt: skip
    assert ours[0] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours[1] == pytest.approx(theirs["inception_score_mean"], rel=1e-3)


def test_features_are_pytorch_fids(weights, monkeypatch):
    monkeypatch.setattr(pytorch_fid, "load_state_dict_from_url", lambda *_, **__: torch.load(weights, weights_only=True))
    images = pictures(3, 1, 64)
    with torch.no_grad():
        theirs = pytorch_fid.InceptionV3([3]).eval()(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)[0].flatten(1)
    assert np.allclose(fid.features(fid.inception(weights), images, 2)[0], theirs, rtol=1e-4, atol=1e-5)


def test_the_batch_size_changes_nothing():
    extractor, images = fid.random_features(), pictures(13, 0, 32)
    (f1, l1), (f2, l2) = (fid.features(extractor, images, batch) for batch in (1, 5))
    assert f1.dtype == np.float64 and np.allclose(f1, f2, rtol=1e-5, atol=1e-7) and np.allclose(l1, l2, rtol=1e-5, atol=1e-6)


def test_the_distance_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(5, 5)) for _ in range(2))
    s1, s2, m1, m2 = a @ a.T, b @ b.T, rng.normal(size=5), rng.normal(size=5)
    expected = ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2)).real
    found, negative = fid.distance((m1, s1), (m2, s2))
    assert found == pytest.approx(expected, rel=1e-9) and negative < fid.NEGATIVE
    assert fid.distance((m1, s1), (m1, s1))[0] == pytest.approx(0, abs=1e-9)


def test_the_inception_score_is_one_for_equal_and_k_for_k_certain_classes():
    assert fid.inception_score(np.ones((20, 7))) == pytest.approx(1)
    certain = 1e3 * np.eye(4)[np.arange(40) % 4]
    assert fid.inception_score(certain) == pytest.approx(4)


def test_a_doubtful_distance_is_warned_of():
    assert "not full rank" in fid.warnings(64, 2048)[0] and "biased upward" in fid.warnings(500, 64)[0]
    assert fid.warnings(10_000, 2048) == [] and "complex" in fid.warnings(10_000, 2048, 0.1)[0]
    indefinite = np.diag([1.0, -0.5])
    assert fid.distance((np.zeros(2), np.eye(2)), (np.zeros(2), indefinite))[1] > fid.NEGATIVE


def test_reference_statistics_are_kept_by_data_weights_and_code(tmp_path, monkeypatch):
    extractor, images = fid.random_features(), pictures(8, 0, 32)
    first = fid.reference(tmp_path, extractor, images, 4, ("data", "code"))
    monkeypatch.setattr(fid, "features", None)  # must not be asked again
    again = fid.reference(tmp_path, extractor, images, 4, ("data", "code"))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    with pytest.raises(TypeError):
        fid.reference(tmp_path, extractor, images, 4, ("other data", "code"))


def test_kid_is_torch_fidelitys():
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 8)), rng.normal(0.3, 1, size=(30, 8))
    options = {"kid_subsets": 1, "verbose": False, "rng_seed": 0}
    theirs = kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), kid_subset_size=30, **options)
    assert fid.kernel_distance(x, y) == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-9)  # the subset is the set
    assert np.isnan(fid.kernel_distance(x[:1], y[:1]))
    big = rng.normal(size=(2500, 4))
    assert abs(fid.kernel_distance(big, rng.normal(size=(2500, 4)))) < 0.01 < fid.kernel_distance(big, big + 1)
