"""The method in one file, to read from top to bottom: growing holes, three networks, their losses,
the training loop (Hedjazi & Genç 2019).

    PYTHONPATH=. python examples/textbook.py custom|context_encoder|free_form [fixed]

trains on drawn faces for a minute. Images and settings come from the library, which also evaluates
a moving average of G, has the other setups and shapes of holes, shows every setup the same images,
resumes, and is faster. A test shows that both compute the same step. In masks 1 = hole.
"""

import argparse
import copy
import itertools
import math
import random
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from inpaint_lib.data import faces
from inpaint_lib.study import config as configuration

# --- 1. The method: the hole grows to the next width every K = steps / len(widths) steps


def hole_width(step, steps, widths, setup="progressive"):
    return widths[step * len(widths) // steps] if setup == "progressive" else widths[-1]


def hole(rng, width, size, centred):
    """Return a mask (1,H,W), 1 = hole: a square in the centre or at a random place."""
    top, left = ((size - width) // 2 if centred else rng.randint(0, size - width) for _ in "yx")
    mask = torch.zeros(1, size, size)
    mask[:, top : top + width, left : left + width] = 1
    return mask


# --- 2. Networks. A generator maps (masked image, mask) to its outputs, the final one last


class Gated(nn.Module):
    """A convolution whose features are let through, place by place, by a sigmoid."""

    def __init__(self, c_in, c_out, kernel=3, act=F.elu, norm=False, up=None, dilation=1, **more):
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(c_in, 2 * c_out, kernel, padding=padding, dilation=dilation, **more)
        self.norm = nn.InstanceNorm2d(c_out, affine=True) if norm else nn.Identity()
        self.act, self.up = act, up

    def forward(self, x):
        x = F.interpolate(x, scale_factor=2, mode=self.up) if self.up else x
        features, gates = self.conv(x).chunk(2, dim=1)
        return self.act(self.norm(features)) * gates.sigmoid()


# custom, the paper's own network
Normed = partial(Gated, norm=True, padding_mode="reflect")


class Residual(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.first, self.second = Normed(c_in, c_out), Normed(c_out, c_out, act=nn.Identity())
        self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x):
        return F.elu(self.shortcut(x) + self.second(self.first(x)))


class CustomG(nn.Module):
    def __init__(self, w):
        super().__init__()
        layers = [Normed(4, w, 5, stride=2), Normed(w, 2 * w, stride=2)]
        layers += [Residual(a * w, b * w) for a, b in ((2, 4), (4, 8), (8, 4), (4, 2))]
        layers += [Normed(2 * w, w, up="bilinear"), Normed(w, w // 2, up="bilinear")]
        layers += [nn.Conv2d(w // 2, 3, 3, padding=1, padding_mode="reflect"), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, masked, mask):
        return [self.layers(torch.cat([masked, mask], 1))]


class CustomD(nn.Module):  # one network for each of several sizes of the image
    def __init__(self, w, scales):
        super().__init__()
        self.scales, filters = nn.ModuleList(), [3, w, 2 * w, 4 * w, 8 * w, 8 * w]
        for _ in range(scales):
            layers = []
            for i, stride in enumerate([2, 2, 2, 1, 1]):
                layers += [nn.Conv2d(filters[i], filters[i + 1], 4, stride, padding=2)]
                layers += [nn.InstanceNorm2d(filters[i + 1])] * (i > 0) + [nn.LeakyReLU(0.2)]
            self.scales.append(nn.Sequential(*layers, nn.Conv2d(8 * w, 1, 1)))

    def forward(self, x):
        scores = []
        for network in self.scales:
            scores.append(network(x))
            x = F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False)
        return scores


# context_encoder (Pathak et al. 2016): image to one vector to the central half of the image
def halve(w, n):
    """Convolutions from RGB that halve the image n times; batch norm in all but the first."""
    filters, layers = [w * max(1, 8 // 2 ** (n - 1 - k)) for k in range(n)], []
    for k, (a, b) in enumerate(itertools.pairwise([3, *filters])):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(b)] * (k > 0) + [nn.LeakyReLU(0.2)]
    return filters, layers


def central_half(x):
    quarter = x.shape[-1] // 4
    return x[..., quarter:-quarter, quarter:-quarter]


class ContextG(nn.Module):
    def __init__(self, size, w, bottleneck):
        super().__init__()
        down, layers = halve(w, int(math.log2(size)) - 2)
        layers += [nn.Conv2d(down[-1], bottleneck, 4, bias=False)]
        layers += [nn.BatchNorm2d(bottleneck), nn.LeakyReLU(0.2)]
        filters = [bottleneck, *halve(w, len(down) - 1)[0][::-1]]
        for k, (a, b) in enumerate(itertools.pairwise(filters)):
            stride, padding = (2, 1) if k else (1, 0)
            layers += [nn.ConvTranspose2d(a, b, 4, stride, padding, bias=False)]
            layers += [nn.BatchNorm2d(b), nn.ReLU()]
        last = nn.ConvTranspose2d(filters[-1], 3, 4, 2, 1, bias=False)
        self.layers = nn.Sequential(*layers, last, nn.Tanh())

    def forward(self, masked, mask):
        mean_colour = torch.tensor([117, 104, 123]).to(masked).view(3, 1, 1) / 127.5 - 1
        output = masked.clone()
        central_half(output)[:] = self.layers(masked + mask * mean_colour)
        return [output]


def context_d(size, w):
    filters, layers = halve(w, int(math.log2(size)) - 3)
    layers += [nn.Conv2d(filters[-1], 1, 4, bias=False), nn.Unflatten(0, (1, -1))]  # one scale
    return nn.Sequential(*layers)


# free_form (Yu et al. 2018): a coarse network, then one that refines with contextual attention
class FreeFormG(nn.Module):
    def __init__(self, w):
        super().__init__()
        two, four, half = 2 * w, 4 * w, partial(Gated, stride=2)
        plain = partial(Gated, four, four)
        dilated = [plain(dilation=d) for d in (2, 4, 8, 16)]
        first = Gated(4, w, 5), half(w, two), Gated(two, two), half(two, four), plain(), plain()
        self.coarse = nn.Sequential(*first, *dilated, *self.decoder(w, four))
        begin = [Gated(3, w, 5), half(w, w), Gated(w, two)]
        middle = half(two, two), Gated(two, four), plain()
        self.refine = nn.Sequential(*begin, *middle, *copy.deepcopy(dilated))
        last = half(two, four), plain(), plain(act=F.relu)
        self.before = nn.Sequential(*copy.deepcopy(begin), *last)
        self.after = nn.Sequential(plain(), plain())
        self.decode = nn.Sequential(*self.decoder(w, 8 * w))

    @staticmethod
    def decoder(w, c_in):
        yield from (Gated(c_in, 4 * w), Gated(4 * w, 4 * w), Gated(4 * w, 2 * w, up="nearest"))
        yield from (Gated(2 * w, 2 * w), Gated(2 * w, w, up="nearest"), Gated(w, w // 2))
        yield from (nn.Conv2d(w // 2, 3, 3, padding=1), nn.Tanh())

    def forward(self, masked, mask):
        coarse = self.coarse(torch.cat([masked, mask], 1))
        x, small = masked + mask * coarse, F.max_pool2d(mask, 4)
        copied = torch.cat([*map(attend, self.before(x).split(1), small.split(1))])
        return [coarse, self.decode(torch.cat([self.refine(x), self.after(copied)], 1))]


def attend(features, mask):
    """Copy known patches into the hole, weighted by likeness; features (1,C,h,w)."""
    h, w = features.shape[2] // 2, features.shape[3] // 2
    patches = F.unfold(features[:, :, ::2, ::2], 3, padding=1)[0]  # (9C, L)
    known = 1 - F.max_pool2d(F.max_pool2d(mask, 2), 3, 1, 1).flatten()  # patches without hole
    scores = (patches / patches.norm(dim=0).clamp(min=1e-4)).T @ patches  # (L from, L to)
    for a, b in ((h, w), (w, h)):  # neighbours along rows, then along columns, vote together
        scores = F.conv2d(scores[None, None], torch.eye(3).to(scores)[None, None], padding=1)
        scores = scores.view(a, b, a, b).permute(1, 0, 3, 2).reshape(h * w, h * w)
    weights = (10 * scores * known[:, None]).softmax(0) * known[:, None]
    pasted = F.unfold(features, 4, stride=2, padding=1)[0] @ weights
    return F.fold(pasted[None], features.shape[2:], 4, stride=2, padding=1) / 4


def free_form_d(w):  # judges 70 x 70 pixels at a time
    filters, layers = [4, w, 2 * w, 4 * w, 8 * w, 1], []
    for (a, b), stride in zip(itertools.pairwise(filters), (2, 2, 2, 1, 1), strict=True):
        layers += [spectral_norm(nn.Conv2d(a, b, 4, stride, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1], nn.Unflatten(0, (1, -1)))


# --- 3. Losses: what D is shown; of scores D's on real, D's on fake, G's; G's reconstruction


def shown(name, output, real, mask):
    composite = real + mask * (output - real)
    kinds = {"custom": output, "context_encoder": central_half(composite)}
    return kinds[name] if name in kinds else torch.cat([composite, mask], 1)


ADVERSARIAL = {
    "custom": (lambda r: (r - 1) ** 2, lambda f: f**2, lambda f: (f - 1) ** 2),  # LSGAN
    "context_encoder": (lambda r: F.softplus(-r), F.softplus, lambda f: F.softplus(-f)),
    "free_form": (lambda r: F.relu(1 - r), lambda f: F.relu(1 + f), torch.neg),  # hinge
}


def reconstruction(name, outputs, real, mask, vgg):
    """The terms that G's loss adds up, by the names that their weights have in the settings."""
    if name == "context_encoder":
        return {"mse": (mask * (outputs[-1] - real) ** 2).sum() / (3 * mask.sum())}
    if name == "free_form":
        return {"l1_coarse": F.l1_loss(outputs[0], real), "l1_refined": F.l1_loss(outputs[1], real)}
    error = (outputs[-1] - real).abs().mean(1, keepdim=True)
    parts = {"l1_hole": mask, "l1_valid": 1 - mask}
    found = {name: (error * part).sum() / part.sum() for name, part in parts.items()}
    return found | {"perceptual": perceptual(vgg, outputs[-1], real)}


def perceptual(vgg, *images):
    """L1 between VGG-16's features after its first three pools."""
    mean, std, total = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0
    x, y = (torchvision.transforms.functional.normalize(i / 2 + 0.5, mean, std) for i in images)
    for layer in vgg:
        x, y = layer(x), layer(y)
        total = total + (F.l1_loss(x, y) if isinstance(layer, nn.MaxPool2d) else 0)
    return total


# --- 4. Training


def create(name, settings, size):
    """Return untrained G and D, and the frozen VGG of the perceptual loss."""
    w, d, *more = settings.widths.values()
    if name == "custom":
        networks = CustomG(w), CustomD(d, *more)
    elif name == "context_encoder":
        networks = ContextG(size, w, *more), context_d(size, d)
    else:
        networks = FreeFormG(w), free_form_d(d)
    for module in itertools.chain(*(network.modules() for network in networks)):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            keeps_signal = 2.3 / math.sqrt(module.weight[0].numel())  # through gates
            nn.init.normal_(module.weight, 0, keeps_signal if name == "free_form" else 0.02)
    vgg = torchvision.models.vgg16().features[:17]  # random; weights="DEFAULT": ImageNet's
    return *networks, vgg.requires_grad_(False)


def train_step(name, G, D, vgg, opt_g, opt_d, real, mask, weights):
    """Update D, then G, and return the terms of their losses."""
    on_real, on_fake, on_g = ADVERSARIAL[name]

    outputs = G(real * (1 - mask), mask)
    scores = [D(shown(name, image, real, mask)) for image in (real, outputs[-1].detach())]
    pairs = zip(*scores, strict=True)
    loss_d = sum(0.5 * (on_real(r).mean() + on_fake(f).mean()) for r, f in pairs)
    opt_d.zero_grad()
    loss_d.backward()
    opt_d.step()

    terms = reconstruction(name, outputs, real, mask, vgg)
    terms["adversarial"] = sum(on_g(f).mean() for f in D(shown(name, outputs[-1], real, mask)))
    opt_g.zero_grad()
    sum(weights[term] * value for term, value in terms.items()).backward()
    opt_g.step()
    return {term: value.item() for term, value in terms.items()} | {"d": loss_d.item()}


def train(name, config, images, setup="progressive", device="cpu"):
    """Train, and yield (step, width of the hole, losses) after every step."""
    model, size, budget = config.models[name], config.data.image_size, config.curriculum
    G, D, vgg = (network.to(device) for network in create(name, model, size))
    opt_g = torch.optim.Adam(G.parameters(), model.lr_g, model.betas)
    opt_d = torch.optim.Adam(D.parameters(), model.lr_d, model.betas)
    rng = random.Random(0)
    for step in range(budget.steps):
        width = hole_width(step, budget.steps, budget.mask_widths, setup)
        real = torch.stack(rng.choices(images, k=budget.batch_size)).to(device)
        mask = torch.stack([hole(rng, width, size, name == "context_encoder") for _ in real])
        batch = real, mask.to(device)
        yield step, width, train_step(name, G, D, vgg, opt_g, opt_d, *batch, model.loss_weights)


if __name__ == "__main__":
    config = configuration.load("tiny")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("architecture", choices=[*config.models])
    parser.add_argument("setup", nargs="?", default="progressive", choices=["progressive", "fixed"])
    args = parser.parse_args()
    images = torch.tensor(np.stack([*faces.draw(range(2000), config.data.image_size)]))
    images = images.permute(0, 3, 1, 2) / 127.5 - 1
    for step, width, losses in train(args.architecture, config, list(images), args.setup):
        if (step + 1) % config.curriculum.steps_per_stage == 0:
            print(f"step {step + 1}, hole {width} px:", losses)
