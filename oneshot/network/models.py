"""Siamese networks: one encoder for both twins, one weighted-L1 head (Koch et al. 2015, section 3).

Shapes: B a batch, S the side of a drawing in pixels, D the length of an embedding.
"""

import torch
from torch import nn
from torch.nn import functional as F

from oneshot.base import settings
from oneshot.base.errors import UserError
from oneshot.network import pairwise
from oneshot.network.norm import GlobalBatchNorm2d


class WeightedL1(nn.Linear):
    """A pair's logit: sum_j w_j |a_j - b_j| + bias (Koch et al. 2015, section 3.1). Symmetric in the pair.

    Always float32: bf16's eight bits are too few to tell two near embeddings apart.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension, 1)

    def forward(self, a_BD: torch.Tensor, b_BD: torch.Tensor) -> torch.Tensor:
        """Any shapes (..., D) that broadcast -> logits (...)."""
        with torch.autocast(a_BD.device.type, enabled=False):
            # Not a matrix product: BLAS libraries may choose the order of its sum anew in every process.
            return ((a_BD.float() - b_BD.float()).abs() * self.weight[0]).sum(dim=-1) + self.bias[0]

    def table(self, z_MD: torch.Tensor) -> torch.Tensor:
        """Embeddings (M, D) -> the logits of all pairs (M, M), as `forward` gives them."""
        with torch.autocast(z_MD.device.type, enabled=False):
            return pairwise.distances(z_MD.float(), self.weight[0]) + self.bias[0]

    def between(self, a_QD: torch.Tensor, b_CD: torch.Tensor) -> torch.Tensor:
        """Embeddings (Q, D) and (C, D) -> the logits of all pairs (Q, C), as `forward` gives them, without gradient."""
        with torch.autocast(a_QD.device.type, enabled=False):
            numbers = at_once(a_QD.device, 1)
            return pairwise.between(a_QD.float(), b_CD.float(), self.weight[0], numbers=numbers) + self.bias[0]

    @torch.no_grad()
    def calibrate(self, distances_n: torch.Tensor) -> None:
        """Set the head so that logits fall with distance, with mean -1 and spread 1 over pairs at these L1 distances.

        From the usual initial weights the loss stays at 0.693 for long if the learning rate is small; from these it
        falls at once.
        """
        spread = distances_n.std().clamp_min(1e-6)
        self.weight.fill_(-1 / spread)
        self.bias.fill_(distances_n.mean() / spread - 1)


def at_once(device: torch.device, numbers: int) -> int:
    """How many scores to compute at a time if each takes this many `numbers`, at least one: on a CPU as many as its
    cache holds, which takes a fraction of the time that blocks of 64 MB take."""
    return max(1, (1 << (19 if device.type == "cpu" else 24)) // numbers)


class FirstConv2d(nn.Conv2d):
    """A convolution of drawings, which have one channel.

    On a CPU, K x K taps on one channel are computed as K taps on K channels: the drawing, and its copies moved up by 1
    to K - 1 rows. The products and the weight are the same, but torch's kernels are made for many channels and are two
    to five times as fast on K.
    """

    def __init__(self, channels: int, taps: int, *, padding: int = 0, bias: bool = True) -> None:
        super().__init__(1, channels, taps, padding=padding, bias=bias)

    def forward(self, x_B1SS: torch.Tensor) -> torch.Tensor:
        if x_B1SS.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x_B1SS)
        if torch.is_autocast_enabled("cpu"):  # cast now, before there are K times as many numbers
            x_B1SS = x_B1SS.to(torch.get_autocast_dtype("cpu"))
        taps, border = self.kernel_size[0], int(self.padding[0])
        rows_BHSK = F.pad(x_B1SS, (0, 0, border, border)).unfold(2, taps, 1)[:, 0].contiguous()
        rows_BKHS = rows_BHSK.permute(0, 3, 1, 2)  # channels last, as it lies in memory
        weight_CK1K = self.weight.permute(0, 2, 1, 3).contiguous(memory_format=torch.channels_last)
        return F.conv2d(rows_BKHS, weight_CK1K, self.bias, padding=(0, border))


class Encoder(nn.Sequential):
    """Layers that make embeddings (B, dimension) of drawings (B, 1, S, S)."""

    def __init__(self, *layers: nn.Module, dimension: int) -> None:
        super().__init__(*layers)
        self.dimension = dimension


class Siamese(nn.Module):
    """An encoder and a head. `size` is the side in pixels of the drawings it takes."""

    def __init__(self, encoder: "Encoder | Turned", *, size: int) -> None:
        super().__init__()
        self.size = size
        self.encoder = encoder
        # Stated by the encoder: finding it out by a drawing takes torch a second on the meta device (see `artifact`).
        self.dimension = encoder.dimension
        self.head = WeightedL1(self.dimension)

    def embed(self, x_B1SS: torch.Tensor) -> torch.Tensor:
        """Drawings (B, 1, S, S), ink 1 on paper 0 -> embeddings (B, D)."""
        return self.encoder(x_B1SS.contiguous(memory_format=torch.channels_last))

    def score(self, a_BD: torch.Tensor, b_BD: torch.Tensor) -> torch.Tensor:
        """Embeddings (..., D) -> logits (...): above 0 means the same character."""
        return self.head(a_BD, b_BD)

    def score_all(self, z_MD: torch.Tensor) -> torch.Tensor:
        """Embeddings (M, D) -> the logits of all pairs (M, M)."""
        return self.head.table(z_MD)

    def score_between(self, a_QD: torch.Tensor, b_CD: torch.Tensor) -> torch.Tensor:
        """Embeddings (Q, D) and (C, D), of which there may be many -> the logits of all pairs of the two (Q, C)."""
        return self.head.between(a_QD, b_CD)

    def forward(self, left_B1SS: torch.Tensor, right_B1SS: torch.Tensor) -> torch.Tensor:
        """Pairs of drawings -> logits (B,). One call of the encoder for both twins."""
        a_BD, b_BD = self.embed(torch.cat([left_B1SS, right_B1SS])).chunk(2)
        return self.score(a_BD, b_BD)


class Turned(nn.Module):
    """An encoder that looks at each drawing in several positions and concatenates their embeddings.

    Positions 0 to 3 are quarter turns; from 4 on the drawing is mirrored first.
    """

    def __init__(self, encoder: Encoder, views: int) -> None:
        super().__init__()
        self.encoder, self.views = encoder, views
        self.dimension = views * encoder.dimension

    def forward(self, x_B1SS: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.encoder(_turned(x_B1SS, view)) for view in range(self.views)], dim=1)


def _turned(x_B1SS: torch.Tensor, view: int) -> torch.Tensor:
    mirrored = x_B1SS.flip(3) if view >= 4 else x_B1SS
    return mirrored.rot90(view % 4, (2, 3)).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def looking(net: Siamese, views: int) -> Siamese:
    """The network that compares two drawings in `views` positions, both drawings in the same one each time.

    Its logit is the mean of the logits of `net`, whose encoder it shares. Embeddings are (B, views x D). Nothing is
    trained again.
    """
    if views == 1:
        return net
    seen = Siamese(Turned(net.encoder, views), size=net.size)
    seen.head.weight.copy_(net.head.weight.repeat(1, views) / views)
    seen.head.bias.copy_(net.head.bias)
    return seen.train(net.training)


def koch(size: int) -> Encoder:
    """The encoder of Koch et al. 2015, figure 4: 105 x 105 -> 4,096 sigmoid units.

    Raises UserError below 65 pixels.
    """
    side = ((((size - 9) // 2 - 6) // 2 - 3) // 2) - 3  # three valid convolutions with pooling, then one without
    if side < 1:
        raise UserError(f"data.size = {size}: the koch network needs at least 65 pixels (the paper: 105)")
    return Encoder(
        # Pooled before the ReLU: the same numbers as after it, and a quarter of them to rectify.
        FirstConv2d(64, 10), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        nn.Conv2d(64, 128, 7), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        nn.Conv2d(128, 128, 4), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        nn.Conv2d(128, 256, 4), nn.ReLU(inplace=True),
        nn.Flatten(), nn.Linear(256 * side * side, 4096), nn.Sigmoid(), dimension=4096,
    )  # fmt: skip


def conv4(size: int) -> Encoder:
    """Four blocks of 3 x 3 convolution to 64 channels, batch norm, ReLU, pooling (Vinyals et al. 2016): 28 x 28 -> 64.

    Raises UserError below 16 pixels.
    """
    if size < 16:
        raise UserError(f"data.size = {size}: the conv4 network halves four times and needs at least 16 pixels")
    layers: list[nn.Module] = []
    convolutions = [FirstConv2d(64, 3, padding=1, bias=False)]
    convolutions += [nn.Conv2d(64, 64, 3, padding=1, bias=False) for _ in range(3)]
    for convolution in convolutions:
        layers += [convolution, GlobalBatchNorm2d(64), nn.MaxPool2d(2), nn.ReLU(inplace=True)]
    return Encoder(*layers, nn.Flatten(), dimension=64 * (size // 16) ** 2)


class Residual(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a 1 x 1 convolution as a shortcut around them (He et al. 2016).

    In a network's first block the drawing itself is added to each channel: a convolution of one channel is slow.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.first_norm = GlobalBatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = GlobalBatchNorm2d(width)
        self.shortcut = nn.Conv2d(channels, width, 1, bias=False) if channels > 1 else nn.Identity()

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = F.relu(self.first_norm(self.first(x_BCHW)), inplace=True)
        y_BCHW = self.second_norm(self.second(y_BCHW))
        return F.relu(y_BCHW + self.shortcut(x_BCHW).to(y_BCHW.dtype), inplace=True)


def resnet(size: int, *, width: int, depth: int = 1) -> Encoder:
    """Four residual stages of `width` x 1, 2, 4 and 4 channels with pooling between them: 28 x 28 -> 3 x 3 x 4 width.

    The last two stages have `depth` blocks each: at a low resolution a block is cheap. The last stage is not pooled:
    differences keep their place. bf16 kernels are fast at widths that are multiples of 16.
    """
    layers: list[nn.Module] = []
    channels = 1
    for wide, blocks in ((width, 1), (2 * width, 1), (4 * width, depth), (4 * width, depth)):
        layers += [Residual(channels if block == 0 else wide, wide) for block in range(blocks)]
        layers.append(nn.MaxPool2d(2))
        channels = wide
    return Encoder(*layers[:-1], nn.Flatten(), dimension=4 * width * (size // 8) ** 2)


ENCODERS = {"koch": koch, "conv4": conv4, "resnet": resnet}


def build(model: settings.Model, *, size: int) -> Siamese:
    """A network as the settings say, with fresh weights from torch's global generator."""
    shape = {"width": model.width, "depth": model.depth} if model.name == "resnet" else {}
    net = Siamese(ENCODERS[model.name](size, **shape), size=size)
    if model.init == "koch":
        koch_init(net)
    return net.to(memory_format=torch.channels_last)


@torch.no_grad()
def koch_init(net: Siamese) -> None:
    """Koch et al. 2015, section 3.2: convolution weights N(0, 0.01), others N(0, 0.2), all biases N(0.5, 0.01).

    The second figures are standard deviations.
    """
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, 0.01 if isinstance(module, nn.Conv2d) else 0.2)
            if module.bias is not None:
                module.bias.normal_(0.5, 0.01)
