"""Masked autoencoders (He et al., CVPR 2022, arXiv:2111.06377): a Vision Transformer that sees a few patches of a picture,
and a small one that draws the others.

Names of parameters, orders and numbers are those of the official code (https://github.com/facebookresearch/mae), so its state
dicts are these networks'. The patches that are left out cost nothing in the encoder: not even their embedding is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo import Requirements
from stzoo.errors import ConfigError, InputError
from stzoo.linear import Linear

EPSILON = 1e-6
"""Of all layer norms, and of normalised targets."""


# --- positions and patches --------------------------------------------------------------------------------------------


def sine_positions(width: int, side: int) -> Tensor:
    """(1, 1 + side * side, width): fixed 2-D sine-cosine positions, after a row of zeros for the class token.

    The first half of the channels says in which column a patch is, the second in which row; each is sines, then cosines, of
    frequencies from 1 down to 1/10000.
    """
    frequencies = 1 / 10000 ** (np.arange(width // 4) / (width / 4))
    angles = np.arange(side)[:, None] * frequencies
    line = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    grid = np.concatenate([np.tile(line, (side, 1)), np.repeat(line, side, 0)], 1)
    return torch.from_numpy(np.concatenate([np.zeros((1, width)), grid]).astype(np.float32))[None]


def resized_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions (1, 1 + n * n, D) of a square of patches as those (1, 1 + rows * columns, D) of another grid (bicubic)."""
    count, width = positions.shape[1] - 1, positions.shape[2]
    side = round(count**0.5)
    if grid == (side, side):
        return positions
    square = positions[:, 1:].reshape(1, side, side, width).permute(0, 3, 1, 2)
    resized = F.interpolate(square.float(), grid, mode="bicubic", align_corners=False).to(positions.dtype)
    return torch.cat([positions[:, :1], resized.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def patchify(images: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) to (B, L, patch * patch * C): patches row by row; in one, pixels row by row, their colours together."""
    batch, channels, height, width = images.shape
    cut = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def unpatchify(patches: Tensor, patch: int, grid: tuple[int, int] | None = None) -> Tensor:
    """What :func:`patchify` undoes: (B, L, patch * patch * C) to (B, C, H, W); ``grid``: rows and columns, default a square."""
    batch, count, numbers = patches.shape
    rows, columns = grid or (round(count**0.5),) * 2
    cut = patches.reshape(batch, rows, columns, patch, patch, numbers // patch**2)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, rows * patch, columns * patch)


def masking(noise: Tensor, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which patches are kept, from noise (B, L): the ``kept`` ones where it is lowest.

    Returns their numbers (B, kept), in the order of the noise; the place (B, L) of each patch in that order; and the mask
    (B, L) in float32, 1 where a patch is left out.
    """
    order = noise.argsort(dim=1)
    places = order.argsort(dim=1)
    return order[:, :kept], places, (places >= kept).float()


def normalised(patches: Tensor) -> Tensor:
    """Patches (B, L, N), each less its mean and divided by its standard deviation (over N - 1), as ``norm_pix_loss`` has them."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + EPSILON).sqrt()


# --- the Vision Transformer -------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Self-attention; one product gives queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        parts = self.qkv(x).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(*parts.unbind())
        return self.proj(found.transpose(1, 2).reshape(batch, count, width))  # type: ignore[no-any-return]


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A Transformer block that normalises first."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.mlp = MLP(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Its convolution has stride and kernel in common, so it is computed as one product, of whichever patches are wanted."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """(B, C, H, W) to (B, L, width), or only the patches ``kept`` (B, K) to (B, K, width)."""
        (batch, channels, height, width), (patch, _) = images.shape, self.proj.stride
        columns = width // patch
        cut = images.reshape(batch, channels, height // patch, patch, columns, patch).permute(0, 2, 4, 1, 3, 5)
        if kept is not None:
            cut = cut[torch.arange(batch, device=kept.device)[:, None], kept // columns, kept % columns]
        return F.linear(cut.reshape(batch, -1, channels * patch * patch), self.proj.weight.flatten(1), self.proj.bias)


class VisionTransformer(nn.Module):
    """What all forms share: patches with fixed positions behind a class token, and blocks."""

    pos_embed: Tensor

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ConfigError(f"image_size {image_size} is no multiple of patch_size {patch_size}")
        check_width("embed_dim", embed_dim, "num_heads", num_heads)
        self.patch_size = patch_size
        self.requirements = Requirements(channels=in_chans, multiple=patch_size, native_size=(image_size, image_size))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.register_buffer("pos_embed", sine_positions(embed_dim, image_size // patch_size))
        self.patch_embed = PatchEmbedding(in_chans, patch_size, embed_dim)
        hidden = int(embed_dim * mlp_ratio)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, hidden) for _ in range(depth))

    def initialise(self) -> None:
        """As published: Xavier's uniform initialisation of all products, small normal tokens, no biases."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for name, parameter in self.named_parameters():
            if name.endswith("_token"):
                nn.init.normal_(parameter, std=0.02)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches in pictures (B, C, H, W). Raises InputError where a patch would be cut."""
        height, width = images.shape[-2:]
        patch = self.patch_size
        if height % patch or width % patch or not height or not width:
            raise InputError(
                f"pictures of {width}x{height} pixels cannot be cut into patches of {patch}x{patch}",
                f"Resize or crop them to multiples of {patch}",
            )
        return height // patch, width // patch

    def tokens(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """(B, 1 + L, D), or of the patches ``kept`` (B, K) alone (B, 1 + K, D): what comes out of the last block.

        At another size than the one it was made for, positions are interpolated. Raises InputError.
        """
        positions = resized_positions(self.pos_embed, self.grid(images))
        own = positions[:, 1:] if kept is None else positions[0, 1:][kept]
        x = self.patch_embed(images, kept) + own
        x = torch.cat([(self.cls_token + positions[:, :1]).expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return x


def check_width(name: str, width: int, heads_name: str, heads: int) -> None:
    """Raise ConfigError where so many channels cannot be shared among the heads, or hold no 2-D positions."""
    if width % heads or width % 4:
        raise ConfigError(f"{name} {width} must be a multiple of {heads_name} {heads}, and of 4 for the positions")


# --- the three forms --------------------------------------------------------------------------------------------------


class MaskedAutoencoder(VisionTransformer):
    """Encoder and decoder (the official MaskedAutoencoderViT).

    Args:
        image_size: height and width of its pictures in pixels; pictures of other sizes get interpolated positions.
        patch_size: height and width of a patch.
        in_chans: colours.
        embed_dim, depth, num_heads: channels, blocks and heads of the encoder.
        decoder_embed_dim, decoder_depth, decoder_num_heads: of the decoder.
        mlp_ratio: hidden channels of an MLP, as a multiple of those it is given.
        norm_pix_loss: whether patches are learnt normalised, each by its own mean and standard deviation.

    Raises:
        ConfigError: sizes that do not fit each other.
    """

    decoder_pos_embed: Tensor

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        mlp_ratio: float = 4.0,
        norm_pix_loss: bool = False,
    ) -> None:
        super().__init__(image_size, patch_size, in_chans, embed_dim, depth, num_heads, mlp_ratio)
        check_width("decoder_embed_dim", decoder_embed_dim, "decoder_num_heads", decoder_num_heads)
        self.norm_pix_loss = norm_pix_loss
        self.norm = nn.LayerNorm(embed_dim, EPSILON)
        self.decoder_embed = Linear(embed_dim, decoder_embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_embed_dim))
        self.register_buffer("decoder_pos_embed", sine_positions(decoder_embed_dim, image_size // patch_size))
        hidden = int(decoder_embed_dim * mlp_ratio)
        self.decoder_blocks = nn.ModuleList(
            Block(decoder_embed_dim, decoder_num_heads, hidden) for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder_embed_dim, EPSILON)
        self.decoder_pred = Linear(decoder_embed_dim, patch_size**2 * in_chans)
        self.initialise()

    def encode(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Pictures (B, C, H, W), and the numbers (B, K) of the patches that are seen, to tokens (B, 1 + K, D), the class
        token first."""
        return self.norm(self.tokens(images, kept))  # type: ignore[no-any-return]

    def decode(self, latent: Tensor, places: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Tokens (B, 1 + K, D) and the places (B, L) of all patches (:func:`masking`) to patches (B, L, p * p * C).

        ``grid``: rows and columns of patches, where that is not the one it was made for.
        """
        return self.decoder_pred(self.decoded(latent, places, grid))  # type: ignore[no-any-return]

    def decoded(self, latent: Tensor, places: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """What the decoder knows of each patch, (B, L, D): :meth:`decode` before the last product."""
        x = self.decoder_embed(latent)
        batch, kept, width = len(x), x.shape[1] - 1, x.shape[2]
        # One row for each token that was seen and one for all others: each place takes its row.
        rows = torch.cat([x[:, 1:].reshape(-1, width), self.mask_token[0]])
        first = torch.arange(batch, device=x.device)[:, None] * kept
        filled = F.embedding(torch.where(places < kept, places + first, batch * kept), rows)
        positions = self.decoder_pos_embed
        positions = resized_positions(positions, grid) if grid else positions
        x = torch.cat([x[:, :1] + positions[:, :1], filled + positions[:, 1:]], 1)
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_norm(x[:, 1:])  # type: ignore[no-any-return]

    def loss(self, images: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        """The mean squared error of the patches that were left out."""
        target = patchify(images, self.patch_size)
        target = normalised(target) if self.norm_pix_loss else target
        return ((predicted - target).square().mean(-1) * mask).sum() / mask.sum()

    def forward(
        self, images: Tensor, mask_ratio: float = 0.75, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As the official code: normalised pictures (B, C, H, W) to the loss, patches (B, L, p * p * C), and the mask (B, L).

        ``noise`` (B, L) decides what is left out; without it, chance. ``int(L * (1 - mask_ratio))`` patches are seen.
        Raises InputError for pictures that cannot be cut into patches, and noise of another shape.
        """
        grid = self.grid(images)
        shape = (len(images), grid[0] * grid[1])
        if noise is None:
            noise = torch.rand(shape, device=images.device)
        elif tuple(noise.shape) != shape:
            raise InputError(f"noise of shape {tuple(noise.shape)}, the pictures have {shape} patches")
        kept, places, mask = masking(noise, int(shape[1] * (1 - mask_ratio)))
        predicted = self.decode(self.encode(images, kept), places, grid)
        return self.loss(images, predicted, mask), predicted, mask


class ImageEncoder(VisionTransformer):
    """The encoder on its own, which sees all patches; with ``num_classes``, a classifier (the official VisionTransformer).

    Args:
        image_size, patch_size, in_chans, embed_dim, depth, num_heads, mlp_ratio: as :class:`MaskedAutoencoder`.
        num_classes: of its classifier; 0: it has none.
        global_pool: whether a picture's vector is the mean over its patches, normalised by ``fc_norm``, as fine-tuned
            classifiers have it; else it is the class token, after ``norm``.

    Raises:
        ConfigError: sizes that do not fit each other.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        num_classes: int = 0,
        global_pool: bool = False,
    ) -> None:
        super().__init__(image_size, patch_size, in_chans, embed_dim, depth, num_heads, mlp_ratio)
        self.global_pool = global_pool
        norm = nn.LayerNorm(embed_dim, EPSILON)
        if global_pool:
            self.fc_norm = norm
        else:
            self.norm = norm
        self.head = Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        self.initialise()

    def features(self, images: Tensor, pool: str = "auto") -> Tensor:
        """Normalised pictures (B, C, H, W) to vectors (B, D).

        ``pool``: the ``"class"`` token, the ``"mean"`` of the patches, or ``"auto"``: what the network was trained for. Raises
        InputError where it has no norm for the class token.
        """
        x = self.tokens(images)
        if self.global_pool:
            if pool == "class":
                raise InputError("this network was trained on the mean of the patches", "Give pool=mean")
            return self.fc_norm(x[:, 1:].mean(1))  # type: ignore[no-any-return]
        if pool == "mean":
            return self.norm(x[:, 1:]).mean(1)  # type: ignore[no-any-return]
        return self.norm(x[:, 0])  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) to logits (B, num_classes), or without a classifier to vectors (B, D)."""
        return self.head(self.features(images))  # type: ignore[no-any-return]


# --- colours ----------------------------------------------------------------------------------------------------------

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's."""


def colour_constants(channels: int) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation that pixels in [0, 1] are normalised by; of pictures that are not RGB, those of the three."""
    if channels == 3:
        return MEAN, STD
    return (sum(MEAN) / 3,) * channels, (sum(STD) / 3,) * channels
