"""A replication of *Learning to Inpaint by Progressively Growing the Mask Regions* (Hedjazi &
Genç, 2019).

Conventions, kept by every module:

- Images are (B, 3, H, W) float32 in [-1, 1]; on disk they are (N, H, W, 3) uint8.
- Masks are (B, 1, H, W) float32, **1 = hole**, one per sample, never empty.
- `masked` is the image with zeros in the hole; `composite` is the output in the hole and the image
  elsewhere.
- A generator is called as `generator(masked, mask)` and returns the list of its outputs, the final
  one last.
- A discriminator returns one list of feature maps per scale; the last map of each list holds the
  scores.
- `rng` is a `torch.Generator`. Every random draw is keyed (`rng.open_stream`): nothing depends on
  what was drawn before.
"""

__version__ = "0.1.0"

# The version of the experimental protocol, part of every result's identity. It is raised by hand
# when numbers change on purpose; docs/protocol.md lists the changes.
PROTOCOL = 3
