"""Losses, pure functions of tensors; `OBJECTIVES` says which of them an architecture is trained with.

An objective has three parts with one signature each, so the training loop never asks which architecture it trains:

- `seen(output, real, mask)`: what the discriminator is shown for an image `output` (B,3,H,W) (the real image included);
- `adversarial`: `(d_loss(real_scores, fake_scores), g_loss(fake_scores), boundary)` over the discriminator's score maps; a
  score above the boundary says "real";
- `reconstruction(stages, real, mask, perceptual, **options)`: named, unweighted terms of the generator's other losses.

The weights come from the configuration.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class WeightsError(ValueError):
    """The perceptual network's weights are not to be had; the message names the key and how to mend it."""


class Objective(NamedTuple):
    seen: object
    adversarial: tuple
    reconstruction: object
    terms: tuple  # the names `reconstruction` returns
    options: dict  # the options `reconstruction` takes, each with a predicate for its values


def composite(output, real, mask):
    """`output` in the hole, `real` elsewhere."""
    return real + mask * (output - real)


def scores(discriminator_output):
    """The score map of each scale."""
    return [features[-1] for features in discriminator_output]


def lsgan_d(real_scores, fake_scores):
    """Least-squares GAN loss of D (Mao et al. 2017), real -> 1, fake -> 0, halved, summed over scales (pix2pixHD)."""
    return sum(0.5 * ((r - 1).square().mean() + f.square().mean()) for r, f in zip(real_scores, fake_scores, strict=True))


def lsgan_g(fake_scores):
    """Least-squares GAN loss of G: fake -> 1, summed over scales."""
    return sum((f - 1).square().mean() for f in fake_scores)


def hinge_d(real_scores, fake_scores):
    """Hinge loss of D (Yu et al. 2018): real above 1, fake below -1, halved, summed over scales."""
    pairs = zip(real_scores, fake_scores, strict=True)
    return sum(0.5 * (F.relu(1 - r).mean() + F.relu(1 + f).mean()) for r, f in pairs)


def hinge_g(fake_scores):
    """Hinge loss of G: raise D's score."""
    return -sum(f.mean() for f in fake_scores)


def bce_d(real_scores, fake_scores):
    """Binary cross-entropy of D on logits (Goodfellow et al. 2014; Pathak et al. 2016), real and fake halved."""
    pairs = zip(real_scores, fake_scores, strict=True)
    return sum(0.5 * (F.softplus(-r).mean() + F.softplus(f).mean()) for r, f in pairs)


def bce_g(fake_scores):
    """Binary cross-entropy of G: fake -> real."""
    return sum(F.softplus(-f).mean() for f in fake_scores)


def l1_region(output, real, region):
    """Mean |output - real| over the pixels and channels of `region` (B,1,H,W) in the batch; 0 where it is empty."""
    error = ((output - real).abs() * region).sum()
    return error / (3 * region.sum()).clamp(min=1)


def l1_pixels(output, real, region):
    """|output - real| summed over `region`, divided by all pixels: the partial-convolution papers' normalisation."""
    return ((output - real).abs() * region).mean()


L1_NORMALISATIONS = {"region": l1_region, "pixels": l1_pixels}


class Perceptual(nn.Module):
    """Mean L1 distance of VGG-16 features after pool1, pool2 and pool3 (Liu et al. 2018), summed over the three layers.

    `weights`: "torchvision" (ImageNet weights, downloaded once by torchvision), "random" (seeded, a stand-in that is no
    measure of what people perceive) or the path of a VGG-16 state dict (.pth or .safetensors; torchvision's key names).
    `width` is the number of filters of the first layer: 64 in VGG-16; random weights allow fewer, for speed.
    Raises WeightsError for a file that does not fit.
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
            self._load(_vgg16_state(weights), weights, width)
        self.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)

    def _load(self, state, source, width):
        if width != 64:
            raise WeightsError(f"perceptual_width is {width}: VGG-16 weights need 64 (only 'random' takes another width)")
        try:
            self.load_state_dict({k: v.float() for k, v in state.items() if k in self.features.state_dict(prefix="features.")})
        except (RuntimeError, AttributeError) as error:
            message = f"perceptual_weights: {source} is no VGG-16 state dict; give one or 'random' ({error})"
            raise WeightsError(message) from None

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


def _vgg16_state(weights):
    if weights == "torchvision":
        from torchvision.models import VGG16_Weights

        try:  # torchvision itself would unpickle whatever lies in torch hub's cache
            return VGG16_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True, weights_only=True)
        except Exception as error:  # network, hash, a damaged or foreign file: no common class
            raise WeightsError(
                f"perceptual_weights: torchvision's VGG-16 weights could not be downloaded or read ({error}); "
                "name a local file instead, or 'random'"
            ) from None
    try:
        if str(weights).endswith(".safetensors"):
            from safetensors.torch import load_file

            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        state = {str(k): v for k, v in state.items()}
    except Exception as error:  # every reader fails in its own way; the cure is the same
        raise WeightsError(
            f"perceptual_weights: cannot read {weights} ({error}); give a VGG-16 state dict as .pth or "
            ".safetensors, 'torchvision' or 'random'"
        ) from None
    return state if any(k.startswith("features.") for k in state) else {f"features.{k}": v for k, v in state.items()}


# --- custom


def _custom_reconstruction(stages, real, mask, perceptual, l1_normalisation="region"):
    output, l1 = stages[-1], L1_NORMALISATIONS[l1_normalisation]
    return {
        "l1_valid": l1(output, real, 1 - mask),
        "l1_hole": l1(output, real, mask),
        "perceptual": perceptual(output, real),
    }


# --- context_encoder


def _central_half(image):
    quarter = image.shape[-1] // 4
    return image[:, :, quarter:-quarter, quarter:-quarter]


def _context_encoder_reconstruction(stages, real, mask, perceptual, overlap=0):
    """Mean squared error over the hole and, as in the authors' code, `overlap` px of known image around it, weighted x10."""
    region = F.max_pool2d(mask, 2 * overlap + 1, 1, overlap) if overlap else mask
    weight = 10 * (region - mask) + mask
    return {"mse": ((stages[-1] - real).square() * weight).sum() / (3 * region.sum())}


# --- free_form


def _free_form_reconstruction(stages, real, mask, perceptual):
    coarse, refined = stages
    return {"l1_coarse": F.l1_loss(coarse, real), "l1_refined": F.l1_loss(refined, real)}


OBJECTIVES = {
    "custom": Objective(
        seen=lambda output, real, mask: output,  # the paper: D is given the generated image
        adversarial=(lsgan_d, lsgan_g, 0.5),
        reconstruction=_custom_reconstruction,
        terms=("l1_valid", "l1_hole", "perceptual"),
        options={"l1_normalisation": [*L1_NORMALISATIONS].__contains__},
    ),
    "context_encoder": Objective(
        seen=lambda output, real, mask: _central_half(composite(output, real, mask)),
        adversarial=(bce_d, bce_g, 0.0),
        reconstruction=_context_encoder_reconstruction,
        terms=("mse",),
        options={"overlap": lambda value: isinstance(value, int) and 0 <= value <= 16},
    ),
    "free_form": Objective(
        seen=lambda output, real, mask: torch.cat([composite(output, real, mask), mask], dim=1),
        adversarial=(hinge_d, hinge_g, 0.0),
        reconstruction=_free_form_reconstruction,
        terms=("l1_coarse", "l1_refined"),
        options={},
    ),
}
