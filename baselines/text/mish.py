"""MISH: Unsupervised Multi-Index Semantic Hashing (Hansen et al., The Web Conference 2021, arXiv:2103.14460)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import signs_of_waves, smoothest_waves, straight_through_draws


@hashbench.method("mish", paper="arXiv:2103.14460", version=1, fidelity="published", family="text", year=2021)
class MISH(hashbench.DeepMethod):
    """MISH: codes that generate a document and a near one, and keep apart documents that an index would look at.

    An encoder of two layers (ReLU, dropout) gives the probabilities of bits in {-1, 1}, which are drawn. The words'
    probabilities are the softmax of (E w)(code + sigma noise) + c, with an embedding E and a learned importance w of
    each word; minus the sum of the log-probabilities of the document's words is a term, that of one of the `near`
    documents, nearest by spectral codes, another. The third is for multi-index search. Among the `memory` codes M made
    last, d is the distance of the floor(100 |M| / N)-th nearest to a document's code, and of t drawn from 0 to d, t mod
    m is one of the m blocks and t div m a radius r. Of those codes that are farther than d, and in that block at
    distance r, the farthest (after N(0, 1) is added) makes the search slow: its document is encoded anew and, where its
    block is no farther than r, the product of the two blocks is added, alpha times, with gradient to it alone. Terms
    are means over the batch (ours). That is an account of the official code, without a look at it; unverified: bits of
    -1 rather than 0, words that count once each, the first weights (Xavier's in the encoder, E from N(0, 1 / bits), w
    of 1), what the noise is added to, and of the training all but optimiser, rate and batch. The spectral codes are
    those of `sh`.
    """

    near: int = hashbench.option(10, "near documents, of which one is drawn each time")
    near_bits: int = hashbench.option(64, "length of the spectral codes")
    hidden: int = hashbench.option(1000, "width of the encoder's two layers")
    dropout: float = hashbench.option(0.2, "share of each of these layers that is dropped")
    alpha: float = hashbench.option(1.0, "weight of the blocks")
    block: int = hashbench.option(16, "bits of a block of the multi-index")
    memory: int = hashbench.option(20_000, "codes that are remembered")
    ranked: int = hashbench.option(100, "k: the rank in the training set whose distance is searched for")
    noise_decay: float = hashbench.option(1e-6, "by how much sigma, 1 at first, falls each step")

    supervised = False
    prepared_by = ("near", "near_bits")
    #: The account of the official code; it ends after 30,000 steps at most, 106 epochs of 20 Newsgroups.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "identity",
        "pretrained": False,
        "augment": "none",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "batch_size": 40,
        "epochs": 100,
    }

    near_documents: Tensor  # (num_train, near)
    codes_made: Tensor  # (memory, K): the codes made last, -1 and 1
    of_document: Tensor  # (memory,): whose they are
    made: Tensor  # (): how many codes were made so far

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse images, blocks that do not fill the bits, and settings without a meaning."""
        if task.inputs not in ("vectors", "text"):
            return "it learns from term vectors, and images have no words; use a data set of documents."
        if min(self.near, self.near_bits, self.hidden, self.block, self.memory, self.ranked) < 1:
            return "near, near_bits, hidden, block, memory and ranked must be at least 1."
        if task.bits % self.block:
            return f"{task.bits} bits are no multiple of the block's {self.block}; use other bits, or another block."
        if task.num_train <= self.near:
            return f"it needs more than {self.near} training documents, for as many near ones."
        if not 0 <= self.dropout < 1:
            return "dropout must be from 0 to less than 1."
        return None

    def prepare(self, task: hashbench.Task, data: hashbench.TrainingData, tools: Any) -> dict[str, Tensor]:
        """Return the training documents as sparse rows, and the near ones of each, (num_train, near)."""
        features = data.features()
        waves = smoothest_waves(features, min(self.near_bits, *features.shape), method="mish's near documents")
        codes = torch.cat([signs_of_waves(rows, waves) for rows in features.split(1024)])
        return {**sparse_rows(features), "near": nearest(codes, self.near)}

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Make the decoder and an empty memory, and take the documents."""
        self.task, words = task, int(prepared["words"])
        self.documents = Documents(prepared)
        self.register_buffer("near_documents", prepared["near"], persistent=False)
        self.embedding = nn.Parameter(torch.randn(words, task.bits) / task.bits**0.5)
        self.importance = nn.Parameter(torch.ones(words))
        self.bias = nn.Parameter(torch.zeros(words))
        self.register_buffer("codes_made", torch.zeros(self.memory, task.bits))
        self.register_buffer("of_document", torch.zeros(self.memory, dtype=torch.int64))
        self.register_buffer("made", torch.zeros((), dtype=torch.int64))

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return the encoder: from features (n, width) to the bits' logits (n, bits)."""
        first, second = nn.Linear(width, self.hidden), nn.Linear(self.hidden, self.hidden)
        layers = (layer for linear in (first, second) for layer in (linear, nn.ReLU(), nn.Dropout(self.dropout)))
        encoder = nn.Sequential(*layers, nn.Linear(self.hidden, task.bits))
        for layer in encoder:
            if isinstance(layer, nn.Linear):  # PyTorch's own biases would outweigh what a row of length 1 gives
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        return encoder

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the terms of the document, of a near one and of the blocks, and the outputs."""
        out = network(batch.inputs)
        code = drawn(out)
        which = torch.randint(self.near_documents.shape[1], (len(out), 1), device=out.device)
        near = self.documents(self.near_documents[batch.index].gather(1, which)[:, 0])
        noisy = code + max(1 - self.noise_decay * batch.step, 0) * torch.randn_like(code)
        log_p = F.log_softmax(noisy @ (self.embedding * self.importance[:, None]).T + self.bias, dim=1)
        document, block, product = self.problems(code.detach())
        other = drawn(network(self.documents(document)))
        self._latest = code.detach()
        return {
            "document": -of_words(log_p, batch.inputs),
            "near document": -of_words(log_p, near),
            "blocks": self.alpha * self.blocks(code.detach(), other, block, product),
        }, out

    def problems(self, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return for codes (n, bits) which document makes the search slow, in which block, and the product there.

        Each is (n,); the product is `block` - 2 r, and above any where no document does.
        """
        count, bits, blocks = len(code), code.shape[1], code.shape[1] // self.block
        stored = self.codes_made.to(code.dtype)
        filled = self.made.clamp(max=self.memory)
        there = torch.arange(self.memory, device=code.device) < filled
        distance = ((bits - code @ stored.T) / 2).round()
        at = torch.where(there, distance, bits + 1).long()
        histogram = torch.zeros(count, bits + 2, dtype=torch.int64, device=code.device)
        histogram = histogram.scatter_add(1, at, torch.ones_like(at))
        rank = self.ranked * filled // self.task.num_train
        searched = (histogram.cumsum(dim=1) < rank).sum(dim=1)  # d: the distance of the code of that rank
        t = (torch.rand(count, device=code.device) * (searched + 1)).long()
        block, product = t % blocks, self.block - 2 * (t // blocks)
        own = code.view(count, blocks, -1).gather(1, block[:, None, None].expand(-1, 1, self.block))[:, 0]
        theirs = stored.view(self.memory, blocks, -1).transpose(0, 1)  # (blocks, memory, block)
        products = torch.einsum("nk,bmk->bnm", own, theirs).gather(0, block[None, :, None].expand(1, -1, self.memory))
        slow = there & (rank > 0) & (products[0].round() == product[:, None]) & (distance > searched[:, None])
        scores = torch.where(slow, distance + torch.randn_like(distance), -torch.inf)
        chosen = scores.argmax(dim=1)
        return self.of_document[chosen], block, torch.where(slow.any(dim=1), product, self.block + 1)

    def blocks(self, code: Tensor, other: Tensor, block: Tensor, product: Tensor) -> Tensor:
        """Return the mean product of the blocks of codes (n, bits) with others', where it is not below `product`."""
        products = (code * other).view(len(code), -1, self.block).sum(dim=2).gather(1, block[:, None])[:, 0]
        return torch.where(products >= product, products, 0).mean()

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Remember the batch's codes in the place of the oldest."""
        place = (self.made + torch.arange(len(batch.index), device=self.made.device)) % self.memory
        self.codes_made[place] = self._latest.to(self.codes_made.dtype)
        self.of_document[place] = batch.index
        self.made += len(batch.index)


def drawn(logits: Tensor) -> Tensor:
    """Return bits in {-1, 1}, each 1 with the probability that its logit says, whose gradient goes straight through."""
    return 2 * straight_through_draws(logits.sigmoid()) - 1


def of_words(log_p: Tensor, documents: Tensor) -> Tensor:
    """Return the mean over documents (n, words) of the summed log-probabilities of the words that each has."""
    return torch.where(documents > 0, log_p, 0).sum(dim=1).mean()


def sparse_rows(documents: Tensor) -> dict[str, Tensor]:
    """Return dense rows (n, words) as columns and values of their nonzeros, where each row begins, and the words."""
    row, column = documents.nonzero(as_tuple=True)
    begins = F.pad(row.bincount(minlength=len(documents)).cumsum(0), (1, 0))
    words = torch.tensor(documents.shape[1])
    return {"columns": column.int(), "values": documents[row, column], "begins": begins, "words": words}


def nearest(codes: Tensor, count: int, *, rows: int = 1024) -> Tensor:
    """Return the `count` nearest others of each code (n, bits) bool, (n, count); of equally near ones the first."""
    signed, index = codes.float() * 2 - 1, torch.arange(len(codes), device=codes.device)
    found = []
    for part in index.split(rows):
        distance = ((codes.shape[1] - signed[part] @ signed.T) / 2).round().long()
        order = distance * len(codes) + index  # no two are equal
        order.scatter_(1, part[:, None], codes.shape[1] * len(codes) + len(codes))  # itself
        found.append(order.topk(count, dim=1, largest=False).indices)
    return torch.cat(found)


class Documents(nn.Module):
    """The training documents as sparse rows, in buffers that no run keeps a second time."""

    columns: Tensor
    values: Tensor
    begins: Tensor

    def __init__(self, prepared: dict[str, Tensor]) -> None:
        super().__init__()
        for name in ("columns", "values", "begins"):
            self.register_buffer(name, prepared[name], persistent=False)
        self._words = int(prepared["words"])
        self._longest = int(self.begins.diff().max())

    def forward(self, index: Tensor) -> Tensor:
        """Return the documents at `index` (n,) as dense rows (n, words)."""
        offset = torch.arange(self._longest, device=index.device)
        begin, end = self.begins[index][:, None], self.begins[index + 1][:, None]
        at = (begin + offset).clamp(max=len(self.values) - 1)
        values = torch.where(begin + offset < end, self.values[at], 0)
        return values.new_zeros(len(index), self._words).scatter_add(1, self.columns[at].long(), values)
