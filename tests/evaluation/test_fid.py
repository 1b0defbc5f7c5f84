"""FID and IS against torch-fidelity, pytorch-fid and known answers."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import torch
import torch_fidelity
from pytorch_fid import inception
from torch import nn

from inpaint_lib.evaluation import fid


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random state dict of the 2015-12-05 Inception, as a weights file."""
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = fid.create_inception()
        for p in network.parameters():
            if p.ndim > 1:
                torch.nn.init.kaiming_normal_(p)
        network.fc.weight.data.mul_(3)
        torch.save(network.state_dict(), path)
    return path


def pictures(n, seed, size=299):
    """Smooth pictures, (n, size, size, 3) uint8, brighter for larger seeds."""
    rng, side = np.random.default_rng(seed), -(-size // 6)
    coarse = rng.integers(0, 200, (n, 6, 6, 3)).repeat(side, 1).repeat(side, 2)[:, :size, :size]
    noise = rng.integers(0, 30 + 25 * seed, (n, size, size, 3))
    return (coarse + noise).clip(0, 255).astype(np.uint8)


class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, k):
        return self.images[k]


def test_the_inception_score_is_one_for_equal_and_k_for_k_certain_classes():
    assert fid.inception_score(np.ones((20, 7))) == pytest.approx(1)
    certain = 1e3 * np.eye(4)[np.arange(40) % 4]
    assert fid.inception_score(certain) == pytest.approx(4)


def test_kid_is_torch_fidelitys():
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 8)), rng.normal(0.3, 1, size=(30, 8))
    options = {"kid_subsets": 1, "kid_subset_size": 30, "verbose": False, "rng_seed": 0}
    theirs = kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), **options)
    expected = theirs[KEY_METRIC_KID_MEAN]  # the subset is the set
    assert fid.kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)
    one, other = rng.normal(size=(2, 2500, 4))  # more than a subset
    assert abs(fid.kernel_distance(one, other)) < 0.01 < fid.kernel_distance(one, one + 1)


@pytest.mark.slow
def test_fid_and_is_match_torch_fidelity_and_features_pytorch_fid(weights, monkeypatch):
    one, other = pictures(10, 0), pictures(10, 1)
    plain = fid.load(weights)
    load = torch.load(weights, weights_only=True)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: load)
    with torch.no_grad():
        images = torch.from_numpy(one[:2]).permute(0, 3, 1, 2) / 255
        theirs = inception.InceptionV3([3]).eval()(images)[0].flatten(1)
    assert np.allclose(fid.compute_features(plain, one[:2], 1), theirs, rtol=1e-4, atol=1e-5)

    def scaled(images):  # x / 127.5 - 1 -> x / 128 - 1: the only difference
        return plain.network((images + 1) * (127.5 / 128) - 1)

    extractor = dataclasses.replace(plain, network=scaled)
    ours, warned = fid.compare(extractor, fid.compute_features(extractor, one, 5), other, 4)
    options = {"feature_extractor_weights_path": str(weights), "isc_splits": fid.SPLITS}
    options |= {"fid": True, "isc": True, "samples_shuffle": False, "batch_size": 4}
    options |= {"cuda": False, "verbose": False, "cache": False}
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(other), input2=Images(one), feature_extractor="inception-v3-compat", **options
    )
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    # ten images are ten equal parts, else numpy's splits differ from theirs
    assert ours["is"] == pytest.approx(theirs["inception_score_mean"], rel=1e-3)
    assert "has not full rank" in warned[0]


def test_the_distance_is_that_of_the_formula_and_zero_for_equal_sets():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(400, 6)), rng.normal(0.3, 2, size=(400, 6))
    s1, s2 = np.cov(one.T), np.cov(other.T)  # by a matrix root, as pytorch-fid does
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(
        s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real
    )
    assert fid.frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)
    few = rng.normal(size=(10, 64)) * 10  # a covariance without full rank
    assert 0 <= fid.frechet_distance(few, few) < 1e-4


def small():
    """A seeded network of 12 features and 3 classes in the place of Inception."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 12, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return fid.Extractor("small", network.eval(), torch.randn(3, 12))


def test_few_images_are_warned_of_and_the_batch_size_changes_nothing():
    extractor, images = small(), pictures(20, 0, 32)
    truth, again = (fid.compute_features(extractor, images, batch) for batch in (8, 1))
    assert truth.shape == (20, 12) and np.allclose(truth, again, rtol=1e-5, atol=1e-6)
    assert "full rank" in fid.compare(extractor, truth, images[:10], 8)[1][0]
    assert fid.compare(extractor, truth, images, 8)[1] == []
    assert fid.compare(extractor, truth, images[:1], 8)[0] == {}


def test_features_of_the_truth_are_kept_by_data_and_weights(tmp_path, monkeypatch):
    extractor, images = small(), pictures(8, 0, 32)
    first = fid.load_reference(tmp_path, extractor, images, 4, "data")
    monkeypatch.setattr(fid, "compute_features", None)  # must not be called again
    assert np.array_equal(fid.load_reference(tmp_path, extractor, images, 4, "data"), first)
    for of, digest in ((extractor, "other"), (dataclasses.replace(extractor, digest="x"), "data")):
        with pytest.raises(TypeError):
            fid.load_reference(tmp_path, of, images, 4, digest)
