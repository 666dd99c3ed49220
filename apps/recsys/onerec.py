"""OneRec: the next items are written, word by word, by an encoder and a decoder with sparse experts.

Source: Deng et al. 2025 (arXiv 2502.18965, section 3) and the OneRec Technical Report (2506.13695, section
2): semantic ids of residual k-means, an encoder over the history, a decoder whose feed-forward blocks are a
sparse mixture balanced by biases, sessions of several items, and a beam. Sizes are for two cores. Ours is
that behaviours have one pathway instead of four, and that the encoder looks back only, so that all places of
a window share it.

Legend: B users, L items of a history, I ids of items, T words an item, S items of a session, D width, W
beams, P places of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from collegium import check_causal, check_needs
from torch import Tensor, nn
from torch.nn import functional as F

from apps.common.controls import DenseFFN, MixtureFFN, feed_forward
from apps.recsys.encoding import Encoded, Sizes
from apps.recsys.model import Embedder
from apps.recsys.recommender import Recommender
from apps.recsys.semantic import Codebooks, item_vectors, told_apart
from apps.recsys.sequences import FIRST, Walk
from apps.recsys.trie import Trie

TRIES = 10
"""Clusterings, one of which must tell items apart."""
ALIKE = 64
"""Items at most that have all words but the last alike."""


class Block(nn.Module):
    """Attention within, attention to a memory if there is one, and a feed-forward block.

    Args:
        dim: D.
        heads: of attention.
        feed: D -> the feed-forward block, routed or dense.
        across: whether there is a memory.
        dropout: of each part's output.
    """

    def __init__(
        self, dim: int, heads: int, feed: Callable[[int], nn.Module], across: bool, dropout: float
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(dim) for _ in range(3 if across else 2))
        self.within = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.across = nn.MultiheadAttention(dim, heads, batch_first=True) if across else None
        self.feed, self.dropout = feed(dim), nn.Dropout(dropout)

    def forward(
        self, x: Tensor, hidden: Tensor, memory: Tensor | None = None, unheard: Tensor | None = None
    ) -> Tensor:
        """(B, n, D) to the same.

        Args:
            x: (B, n, D).
            hidden: (n, n) or (B, n, n) bool, what a place does not see of the others.
            memory: (B, L, D).
            unheard: (B, n, L) bool, what a place does not hear of the memory.
        """
        y = self.norms[0](x)
        x = x + self.dropout(self.within(y, y, y, attn_mask=self._by_head(hidden), need_weights=False)[0])
        if self.across is not None and unheard is not None:
            y, mask = self.norms[1](x), self._by_head(unheard)
            x = x + self.dropout(self.across(y, memory, memory, attn_mask=mask, need_weights=False)[0])
        y, _ = feed_forward(self.feed, self.norms[-1](x))
        return x + torch.as_tensor(self.dropout(y))

    def _by_head(self, mask: Tensor) -> Tensor:
        return mask if mask.ndim == 2 else mask.repeat_interleave(self.within.num_heads, 0)


class OneRec(Recommender):
    """Writes the next items as semantic ids.

    Args:
        dim: D.
        depth: blocks of the encoder, and of the decoder.
        heads: of attention.
        words: centres of each level of the semantic ids; one level more tells like items apart.
        contents: how much words hang on what is known of an item; on what it is taken with they do by 1.
        session: S, items that are written one after the other.
        places: of a window that are told in one batch.
        beams: W.
        dropout: of embeddings, and of each part of a block.
        feed_forward: D -> the block of the decoder.
    """

    codes: Tensor

    def __init__(
        self,
        dim: int = 64,
        depth: int = 2,
        heads: int = 2,
        words: tuple[int, ...] = (32, 32, 32),
        contents: float = 0.5,
        session: int = 2,
        places: int = 8,
        beams: int = 30,
        dropout: float = 0.2,
        feed_forward: Callable[[int], nn.Module] = MixtureFFN,
    ) -> None:
        super().__init__()
        self.dim, self.depth, self.heads, self.words = dim, depth, heads, tuple(words)
        self.contents = contents
        self.session, self.places, self.beams, self.dropout = session, places, beams, dropout
        self.make = feed_forward
        self.levels, self.most = len(self.words) + 1, max(*self.words, ALIKE)

    def _make(self, profile: Sizes, items: int, length: int) -> None:
        self.register_buffer("codes", torch.zeros(items, self.levels, dtype=torch.int64))
        self.embedder = Embedder(profile, items, self.dim)
        self.person = nn.Linear(self.embedder.width, self.dim)
        self.spoken = nn.Embedding(self.levels * self.most + 1, self.dim)  # the last one begins an item
        self.ago = nn.Embedding(length, self.dim)
        self.order = nn.Embedding(self.session * (self.levels + 1), self.dim)
        for table in (self.embedder.items, self.spoken, self.ago, self.order):
            nn.init.normal_(table.weight, std=self.dim**-0.5)
        plain = partial(DenseFFN, hidden=2 * self.dim)
        encoder = [Block(self.dim, self.heads, plain, False, self.dropout) for _ in range(self.depth)]
        decoder = [Block(self.dim, self.heads, self.make, True, self.dropout) for _ in range(self.depth)]
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.heard, self.said = nn.RMSNorm(self.dim), nn.RMSNorm(self.dim)
        check_needs(self, [])
        check_causal(self)

    def study(self, walk: Walk, contents: Encoded) -> None:
        """Give every item its words, by a seed that torch's generator gives.

        Raises ValueError where too many have the same ones.
        """
        items = len(self.codes)
        vectors = item_vectors(walk.items, contents, items, self.contents)[FIRST:]
        for _ in range(TRIES):
            books = Codebooks.fit(vectors, self.words, seed=int(torch.randint(2**31, ())))
            found = told_apart(books.encode(vectors))
            if found[:, -1].max(initial=0) < self.most:
                self.codes[FIRST:] = torch.from_numpy(found).to(self.codes.device)
                return
        raise ValueError(f"over {self.most} items have the same words: give OneRec more `words`")

    def loss(self, walk: Walk) -> Tensor:
        """Words of the items that come at some places of each window."""
        row, place = some_places(walk.items, self.places)
        memory, blank = self._listen(walk.profile.take(row), walk.items[row, :-1])
        coming = place[..., None] + torch.arange(self.session, device=place.device)
        items = F.pad(walk.items[row], (0, self.session))[torch.arange(len(row))[:, None, None], coming]
        later = torch.arange(memory.shape[1], device=place.device) >= place[..., None]
        words = self.codes[items]  # (B, P, S, T)
        scores = self._speak(self._tokens(words), memory, blank[:, None] | later)
        wanted = torch.where((items >= FIRST)[..., None], words, -100)
        return F.cross_entropy(scores.flatten(0, -2), wanted.flatten(), ignore_index=-100)

    def scores(self, walk: Walk) -> Tensor:
        """Log probabilities of the items that a beam finds, all others minus infinity."""
        items, chance = self.write(walk)
        found = chance.new_full((len(items), len(self.codes)), -torch.inf)
        return found.scatter_reduce(1, items[..., 0], chance, "amax")  # beams that led nowhere tell of any

    @torch.no_grad()
    def write(self, walk: Walk, session: int = 1, beams: int | None = None) -> tuple[Tensor, Tensor]:
        """The likeliest sessions by a beam over legal ids, without what was taken before or twice the same.

        Args:
            walk: users.
            session: items of each, up to S.
            beams: W; as many as there are legal ones where these are fewer.

        Returns:
            Items (B, W, session) and the log probability of each session (B, W), minus infinity where there
            are fewer legal ones: what it holds then means nothing.

        Raises:
            ValueError: a session longer than those of training.
        """
        if not 1 <= session <= self.session:
            raise ValueError(
                f"OneRec was made to write sessions of up to {self.session} items, not {session}"
            )
        memory, blank = self._listen(walk.profile, walk.history)
        trie, users = Trie.of(self.codes, self.most), len(memory)
        said = torch.zeros(users, 1, 0, dtype=torch.int64, device=memory.device)
        chance = torch.zeros(users, 1, device=memory.device)
        written = torch.zeros(users, 1, 0, dtype=torch.int64, device=memory.device)
        without = torch.zeros(users, len(self.codes), dtype=torch.bool, device=memory.device)
        without = without.scatter(1, torch.cat([walk.history, walk.seen], 1), True)
        for _ in range(session):
            node, begun = torch.zeros_like(chance, dtype=torch.int64), chance.shape[1]
            for level in range(self.levels):
                W = said.shape[1]
                raw = self._speak(self._begun(said), memory, blank[:, None].expand(-1, W, -1), last=True)
                log = raw.log_softmax(-1)  # (B, W, most)
                after = trie.children[level][node]  # (B, W, most)
                left = trie.left(level, without).gather(1, after.clamp(min=0).flatten(1)).view_as(after)
                taken = (after[..., None] == trie.at[level][written][:, :, None]).sum(-1)  # by this session
                legal = (after >= 0) & (left > taken)
                total = (chance[..., None] + log.masked_fill(~legal, -torch.inf)).flatten(1)
                width = min(beams or self.beams, begun * int((trie.children[level] >= 0).sum()))
                chance, best = total.topk(width, 1)
                parent, word = best // self.most, best % self.most
                said = torch.cat(
                    [said.gather(1, parent[..., None].expand(-1, -1, said.shape[2])), word[..., None]], 2
                )
                node = after.flatten(1).gather(1, best).clamp(min=0)
                written = written.gather(1, parent[..., None].expand(-1, -1, written.shape[2]))
            written = torch.cat([written, trie.items[node][..., None]], 2)
        return written, chance

    def chances(self, walk: Walk, sessions: Tensor) -> Tensor:
        """(B, P) log probabilities of sessions (B, P, S) behind the history, word after word."""
        memory, blank = self._listen(walk.profile, walk.history)
        words = self.codes[sessions]
        unheard = blank[:, None].expand(-1, sessions.shape[1], -1)
        log = self._speak(self._tokens(words), memory, unheard).log_softmax(-1)
        return log.gather(-1, words[..., None]).flatten(2).sum(-1)

    def _listen(self, profile: Encoded, history: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, D) what is known behind each item, and (B, L) where there is none."""
        length = history.shape[1]
        words = self.spoken(self._ids(self.codes[history])).sum(-2)
        person = self.person(self.embedder(profile, history[:, :0]))[:, None]
        x = self.embedder.items(history) + words + self.ago.weight[-length:] + person
        x = F.dropout(x, self.dropout, self.training)
        blank = history == 0
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        hidden = (later | blank[:, None]) & ~torch.eye(length, dtype=torch.bool, device=x.device)
        for block in self.encoder:
            x = block(x, hidden)
        return self.heard(x), blank

    def _speak(self, tokens: Tensor, memory: Tensor, unheard: Tensor, last: bool = False) -> Tensor:
        """Scores (B, P, S, T, most) of the words of each item, or (B, P, most) of the last, from tokens.

        Args:
            tokens: (B, P, n).
            memory: (B, L, D).
            unheard: (B, P, L) bool, what a place does not hear of it.
            last: of the word behind the last token alone.
        """
        P, n = tokens.shape[1:]
        x = F.dropout(self.spoken(tokens) + self.order.weight[:n], self.dropout, self.training).flatten(1, 2)
        place = torch.arange(P, device=x.device).repeat_interleave(n)
        hidden = (place[:, None] != place) | torch.ones(P * n, P * n, dtype=torch.bool, device=x.device).triu(
            1
        )
        for block in self.decoder:
            x = block(x, hidden, memory, unheard.repeat_interleave(n, 1))
        table = self.spoken.weight[:-1].view(self.levels, self.most, self.dim)
        x = self.said(x).view(len(x), P, n, self.dim)
        if last:
            return torch.as_tensor(x[:, :, -1] @ table[(n - 1) % (self.levels + 1)].T)
        x = x.view(len(x), P, -1, self.levels + 1, self.dim)[..., :-1, :]  # a last word is followed by none
        return torch.einsum("bpstd,twd->bpstw", x, table)

    def _ids(self, words: Tensor) -> Tensor:
        """Words (..., T) of items as tokens."""
        return words + self.most * torch.arange(self.levels, device=words.device)

    def _tokens(self, words: Tensor) -> Tensor:
        """Words (..., S, T) as what is spoken (..., S (T + 1)): each item begins with the same token."""
        return F.pad(self._ids(words), (1, 0), value=self.levels * self.most).flatten(-2)

    def _begun(self, words: Tensor) -> Tensor:
        """Words so far (B, W, n), of which the last item is not whole, as tokens."""
        whole, rest = divmod(words.shape[-1], self.levels)
        padded = F.pad(words, (0, self.levels - rest)).view(*words.shape[:2], whole + 1, self.levels)
        return self._tokens(padded)[..., : whole * (self.levels + 1) + rest + 1]


def some_places(items: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Windows (B,) that tell something, and places (B, P) in them: known items with one before, at random.

    Args:
        items: (windows, L + 1) ids.
        number: P.
    """
    can = (items[:, 1:] >= FIRST) & (items[:, :-1] > 0)
    row = can.any(1).nonzero()[:, 0]
    return row, torch.multinomial(can[row].float(), number, replacement=True) + 1
