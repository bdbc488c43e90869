"""MISH: Unsupervised Multi-Index Semantic Hashing (Hansen et al., The Web Conference 2021, arXiv:2103.14460)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import signs_of_waves, smoothest_waves, straight_through_draws


@hashbench.method("mish", paper="arXiv:2103.14460", version=2, fidelity="published", family="text", year=2021)
class MISH(hashbench.DeepMethod):
    """MISH: codes that generate a document, its own and a near one's, and keep apart what an index would look at.

    An encoder of two layers (ReLU, dropout after the second) gives the probabilities p of bits in {-1, 1}, which are
    drawn. The words' probabilities are the softmax of (E w)(code + sigma noise) + c, with an embedding E and a learned
    importance w of each word. Minus the sum of the log-probabilities of the document's words is a term, the same from
    the code of one of the `near` documents another. The third is for multi-index search, by codes that are not drawn (1
    where p > 1/2). Among the `memory` codes M made last, at first those of the untrained encoder, d is the distance of
    the floor(100 |M| / N)-th nearest to a document's code, and of t drawn from 0 to d, t mod m is one of the m blocks
    and t div m a radius r. Of those codes that are farther than d, and in that block at distance r, the farthest makes
    the search slow: twice the distance, or 0 for all other codes, plus N(0, 1) is the largest. Its document is encoded
    anew and, where its block is no farther than r, the product of the two blocks is added, alpha times, with gradient
    to it alone. All that is the authors' code's, as are the first weights (Xavier's in the encoder, E from U(-1, 1), w
    from U(0.1, 1)); its second term for search (alpha_2), off by default, is left out. Ours: terms are means over the
    batch, not sums; near documents are found once, in the training set, by the spectral codes of `sh`, there in the
    memory by self-taught hashing. Unverified: the paper's own settings.
    """

    near: int = hashbench.option(9, "near documents, of which one, at the same rank for a batch, is drawn each time")
    near_bits: int = hashbench.option(64, "length of the spectral codes; no more than documents and words allow")
    hidden: int = hashbench.option(1000, "width of the encoder's two layers")
    dropout: float = hashbench.option(0.2, "share of the second layer that is dropped")
    floor: float = hashbench.option(1e-10, "least probability of a word that is learned; 0: all are")
    alpha: float = hashbench.option(1.0, "weight of the blocks")
    block: int = hashbench.option(16, "bits of a block of the multi-index")
    memory: int = hashbench.option(20_000, "codes that are remembered; no more than there are documents")
    ranked: int = hashbench.option(100, "k: the rank in the training set whose distance is searched for")
    noise_decay: float = hashbench.option(1e-6, "by how much sigma, 1 at first, falls each step")

    supervised = False
    prepared_by = ("near", "near_bits")
    #: The authors' code, which ends after 30,000 steps at most, 106 epochs of 20 Newsgroups.
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
    made: Tensor  # (): how many codes were made so far, without those of the untrained encoder

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
        if self.ranked * self.memory < task.num_train:
            return (
                f"of {task.num_train:,} training documents, {self.memory:,} codes have none at the rank {self.ranked}; "
                f"raise memory or ranked."
            )
        if not 0 <= self.dropout < 1 or self.floor < 0:
            return "dropout must be from 0 to less than 1, and floor at least 0."
        return None

    def prepare(self, task: hashbench.Task, data: hashbench.TrainingData, tools: Any) -> dict[str, Tensor]:
        """Return the training documents as sparse rows, and the near ones of each, (num_train, near).

        Raises HashbenchError for vectors with a value below 0, which weighs no word.
        """
        features = data.features()
        if features.amin() < 0:
            raise hashbench.HashbenchError(
                "mish learns from weights of words, and some are below 0; shift or drop them."
            )
        count, words = features.shape
        bits = min(self.near_bits, words, count - 1)  # less their mean, n documents span n - 1 dimensions
        waves = smoothest_waves(features, bits, method="mish's near documents")
        codes = torch.cat([signs_of_waves(rows, waves) for rows in features.split(1024)])
        return {**sparse_rows(features), "near": nearest(codes, self.near)}

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Make the decoder and the memory, and take the documents."""
        self.task, words = task, int(prepared["words"])
        self.documents = Documents(prepared)
        self.register_buffer("near_documents", prepared["near"], persistent=False)
        self.embedding = nn.Parameter(torch.empty(words, task.bits).uniform_(-1, 1))
        self.importance = nn.Parameter(torch.empty(words).uniform_(0.1, 1))
        self.bias = nn.Parameter(torch.zeros(words))
        size = min(self.memory, task.num_train)
        self.register_buffer("codes_made", torch.ones(size, task.bits))
        self.register_buffer("of_document", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("made", torch.zeros((), dtype=torch.int64))

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return the encoder: from features (n, width) to the bits' logits (n, bits)."""
        encoder = nn.Sequential(
            nn.Linear(width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, self.hidden), nn.ReLU(),
            nn.Dropout(self.dropout), nn.Linear(self.hidden, task.bits),
        )  # fmt: skip
        for layer in encoder:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        return encoder

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the terms of the document, of a near one and of the blocks, and the outputs."""
        if batch.step == 0:
            self.fill(network)
        out = network(batch.inputs)
        rank = torch.randint(self.near_documents.shape[1], (1,), device=out.device)
        near = network(self.documents(self.near_documents[batch.index].index_select(1, rank)[:, 0]))
        sigma = max(1 - self.noise_decay * batch.step, 0)
        self._latest = decided(out).detach()
        document, block, product = self.problems(self._latest)
        other = decided(network(self.documents(document)))
        return {
            "document": -self.of_words(drawn(out), batch.inputs, sigma),
            "near document": -self.of_words(drawn(near), batch.inputs, sigma),
            "blocks": self.alpha * self.blocks(self._latest, other, block, product),
        }, out

    @torch.no_grad()
    def fill(self, network: nn.Module) -> None:
        """Remember codes of the training documents, in any order: of as many as there is place for."""
        size, device = len(self.codes_made), self.codes_made.device
        self.of_document.copy_(torch.randperm(self.task.num_train, device=device)[:size])
        for place in torch.arange(size, device=device).split(1024):
            codes = decided(network(self.documents(self.of_document[place])))
            self.codes_made[place] = codes.to(self.codes_made.dtype)

    def of_words(self, code: Tensor, documents: Tensor, sigma: float) -> Tensor:
        """Return the mean log-probability of documents (n, words) by codes (n, bits) to which noise is added."""
        noisy = code + sigma * torch.randn_like(code)
        log_p = F.log_softmax(noisy @ (self.embedding * self.importance[:, None]).T + self.bias, dim=1)
        if self.floor:
            log_p = log_p.clamp(min=math.log(self.floor))
        return of_words(log_p, documents)

    def problems(self, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return for codes (n, bits) which document makes the search slow, in which block, and the product there.

        Each is (n,); the product is `block` - 2 r. Where no document does, it is one of those remembered, by chance.
        """
        count, bits, blocks = len(code), code.shape[1], code.shape[1] // self.block
        stored = self.codes_made.to(code.dtype)
        size = len(stored)
        distance = ((bits - code @ stored.T) / 2).round()
        rank = min(self.ranked * size // self.task.num_train, size)  # of fewer documents than `ranked`, the farthest
        searched = distance.topk(rank, dim=1, largest=False).values[:, -1]  # d
        t = (torch.rand(count, device=code.device) * (searched + 1)).long()
        block, product = t % blocks, self.block - 2 * (t // blocks)
        own = code.view(count, blocks, -1).gather(1, block[:, None, None].expand(-1, 1, self.block))[:, 0]
        theirs = stored.view(size, blocks, -1).transpose(0, 1)  # (blocks, memory, block)
        products = torch.einsum("nk,bmk->bnm", own, theirs).gather(0, block[None, :, None].expand(1, -1, size))
        slow = (products[0].round() == product[:, None]) & (distance > searched[:, None])
        chosen = (torch.where(slow, 2 * distance, 0) + torch.randn_like(distance)).argmax(dim=1)
        return self.of_document[chosen], block, product

    def blocks(self, code: Tensor, other: Tensor, block: Tensor, product: Tensor) -> Tensor:
        """Return the mean product of the blocks of codes (n, bits) with others', where it is not below `product`."""
        products = (code * other).view(len(code), -1, self.block).sum(dim=2).gather(1, block[:, None])[:, 0]
        return torch.where(products >= product, products, 0).mean()

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Remember the batch's codes in the place of the oldest."""
        index = batch.index[-len(self.codes_made) :]
        place = (self.made + torch.arange(len(index), device=self.made.device)) % len(self.codes_made)
        self.codes_made[place] = self._latest[-len(index) :].to(self.codes_made.dtype)
        self.of_document[place] = index
        self.made += len(index)

    def codes(self, out: Tensor) -> Tensor:
        """Return where the probabilities of bits with logits (n, bits) are above 1/2, bool."""
        return out > 0


def drawn(logits: Tensor) -> Tensor:
    """Return bits in {-1, 1}, each 1 with the probability that its logit says, whose gradient goes straight through."""
    return 2 * straight_through_draws(logits.sigmoid()) - 1


def decided(logits: Tensor) -> Tensor:
    """Return the more probable bits in {-1, 1}, of equally probable ones -1, with the gradient of drawn ones."""
    p = logits.sigmoid()
    return 2 * ((logits > 0).to(p.dtype) + (p - p.detach())) - 1


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
