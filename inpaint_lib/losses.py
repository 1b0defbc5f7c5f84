"""Losses as pure functions of tensors, and the perceptual network.

Adversarial losses take lists of score maps, one per scale of the discriminator. Which architecture
uses which loss is in its file in models/.
"""

import torch
import torch.nn.functional as F
from torch import nn


class WeightsError(ValueError):
    """Weights cannot be used; the message says what to do."""


def composite(output, real, mask):
    """Return `output` in the hole and `real` elsewhere."""
    return real + mask * (output - real)


def get_scores(discriminator_output):
    """Return the score map of each scale."""
    return [features[-1] for features in discriminator_output]


def lsgan_d(real_scores, fake_scores):
    """Return D's least-squares GAN loss (Mao et al. 2017): real -> 1, fake -> 0.

    Halved and summed over scales, as in pix2pixHD.
    """
    pairs = zip(real_scores, fake_scores, strict=True)
    return sum(0.5 * ((r - 1).square().mean() + f.square().mean()) for r, f in pairs)


def lsgan_g(fake_scores):
    """Return G's least-squares GAN loss: fake -> 1, summed over scales."""
    return sum((f - 1).square().mean() for f in fake_scores)


def hinge_d(real_scores, fake_scores):
    """Return D's hinge loss (Yu et al. 2018), halved, summed over scales."""
    pairs = zip(real_scores, fake_scores, strict=True)
    return sum(0.5 * (F.relu(1 - r).mean() + F.relu(1 + f).mean()) for r, f in pairs)


def hinge_g(fake_scores):
    """Return G's hinge loss: minus D's mean score, summed over its scales."""
    return -sum(f.mean() for f in fake_scores)


def bce_d(real_scores, fake_scores):
    """Return D's binary cross-entropy on logits (Goodfellow et al. 2014), real and fake halved."""
    pairs = zip(real_scores, fake_scores, strict=True)
    return sum(0.5 * (F.softplus(-r).mean() + F.softplus(f).mean()) for r, f in pairs)


def bce_g(fake_scores):
    """Return G's binary cross-entropy: fake -> real."""
    return sum(F.softplus(-f).mean() for f in fake_scores)


def l1_region(output, real, region):
    """Return the mean |output - real| over `region` (B,1,H,W) of the batch; 0 if it is empty."""
    error = ((output - real).abs() * region).sum()
    return error / (3 * region.sum()).clamp(min=1)


def l1_pixels(output, real, region):
    """Return |output - real| summed over `region`, divided by all pixels (Liu et al. 2018)."""
    return ((output - real).abs() * region).mean()


class Perceptual(nn.Module):
    """Perceptual loss (Liu et al. 2018): summed L1 distances of VGG-16 features after pool1 to 3.

    Takes two batches (B,3,H,W) in [-1, 1]; the gradient flows to the first.
    `weights`: "torchvision" (ImageNet weights, downloaded once), "random" (from a fixed seed; they
    do not measure what people perceive) or the path of a VGG-16 state dict (.pth or .safetensors,
    torchvision's key names). `width`: filters of the first layer, 64 in VGG-16; random weights
    allow fewer, for speed. Raises WeightsError for weights that cannot be read or do not fit.
    """

    def __init__(self, weights="torchvision", width=64):
        super().__init__()
        plan = [1, 1, "pool", 2, 2, "pool", 4, 4, 4, "pool"]  # x width: VGG-16 up to pool3
        layers, c_in = [], 3
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for item in plan:
                if item == "pool":
                    layers.append(nn.MaxPool2d(2))
                    continue
                layers += [nn.Conv2d(c_in, item * width, 3, padding=1), nn.ReLU()]
                c_in = item * width
                nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
                nn.init.zeros_(layers[-2].bias)
        self.features = nn.Sequential(*layers)
        if weights != "random":
            if width != 64:
                raise WeightsError(f"perceptual_width is {width}: VGG-16 weights need 64")
            self.load_state_dict(read_vgg16(weights, self.state_dict()))
        self.requires_grad_(False).eval()
        for name, values in {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}.items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, output, real):
        total = 0.0
        x, y = ((image * 0.5 + 0.5 - self.mean) / self.std for image in (output, real))
        for layer in self.features:
            x = layer(x)
            with torch.no_grad():
                y = layer(y)
            if isinstance(layer, nn.MaxPool2d):
                total = total + F.l1_loss(x.float(), y.float())
        return total


def read_vgg16(weights, like, key="perceptual_weights"):
    """Return the weights of a VGG-16, float32, for all names in the state dict `like`.

    Names and shapes are torchvision's ("features.0.weight"). `weights`: "torchvision" or a file, as
    for Perceptual. Raises WeightsError, which names the `key` of the configuration.
    """
    remedy = "give a VGG-16 state dict (.pth, .safetensors; perceptual_weights also takes 'random')"
    try:  # each reader raises errors of its own
        if weights == "torchvision":
            from torchvision.models import VGG16_Weights

            # weights_only: torchvision itself would unpickle any file in the cache
            state = VGG16_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True, weights_only=True)
        elif str(weights).endswith(".safetensors"):
            from safetensors.torch import load_file

            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        state = {str(k).removeprefix("features."): v for k, v in state.items()}
    except Exception as error:
        raise WeightsError(f"{key}={weights} cannot be read ({error}): {remedy}") from None
    found = {}
    for name, value in like.items():
        stored = state.get(name.removeprefix("features."))
        if getattr(stored, "shape", None) != value.shape:
            why = f"{name} is missing or has another shape"
            raise WeightsError(f"{key}={weights} is not a VGG-16 state dict ({why}): {remedy}")
        found[name] = stored.float()
    return found
