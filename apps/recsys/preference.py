"""Alignment of OneRec with what users like, by DPO on sessions that it writes itself.

Source: OneRec (Deng et al. 2025, arXiv 2502.18965, section 3.4): a reward model ranks sessions of the beam,
the best and the worst make a pair for direct preference optimisation (Rafailov et al. 2023, eq. 7), anew in
every step, beside next-token prediction. There rewards are watch time and likes, by a large model; here the
chance that an item is liked, by a small one that learns on the same log and sees no held-out item.

Legend: B users, L items of a history, S items of a session, W beams, D width, P places of a window.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from collegium.layer import moe_layers
from torch import Tensor, nn
from torch.nn import functional as F

from apps.recsys.encoding import Sizes
from apps.recsys.onerec import OneRec, some_places
from apps.recsys.sequences import Walk


class Reward(nn.Module):
    """How likely a user is to like an item, from what is known of the user.

    Args:
        dim: D, of what is known of the user and of items.
        items: I.
    """

    def __init__(self, dim: int, items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(items, dim)
        self.bias = nn.Embedding(items, 1)
        self.user = nn.Linear(dim, dim)
        self.mean = nn.Linear(dim, 1)
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.zeros_(self.bias.weight)

    def forward(self, state: Tensor, items: Tensor) -> Tensor:
        """States (..., D) and items (..., n) to logits (..., n)."""
        fit = torch.einsum("...d,...nd->...n", self.user(state), self.items(items))
        score: Tensor = fit + self.bias(items)[..., 0] + self.mean(state)
        return score


class AlignedOneRec(OneRec):
    """OneRec that in the last part of its training prefers, of what it would write, what users like.

    Args:
        align_from: share of training after which that begins.
        weight: of the preferences' loss.
        beta: how far preferences may lead away from what was learned before.
        candidates: W, sessions of which the best and the worst make a pair.
        pairs: windows of a batch for which sessions are written.
        options: of OneRec.
    """

    aligning: Tensor

    def __init__(
        self,
        align_from: float = 0.7,
        weight: float = 0.1,
        beta: float = 0.1,
        candidates: int = 8,
        pairs: int = 32,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.align_from, self.weight, self.beta = align_from, weight, beta
        self.candidates, self.pairs, self.options = candidates, pairs, options

    def _make(self, profile: Sizes, items: int, length: int) -> None:
        super()._make(profile, items, length)
        with torch.random.fork_rng():
            twin = OneRec(**self.options)
            twin.build(profile, items, length)
        for network in (self, twin):
            keep_biases(network)
        self._twin = (twin.eval(),)  # no child: what it does is neither trained, nor balanced, nor counted
        self.reward = Reward(self.dim, items)
        for name, value in twin.state_dict().items():
            self.register_buffer(_kept(name), value.clone())
        self.register_buffer("aligning", torch.tensor(False))

    @property
    def ready(self) -> bool:
        """Whether preferences are learned by now: before, it is no more than OneRec."""
        return bool(self.aligning)

    @property
    def writer(self) -> OneRec:
        """A plain OneRec of the same weights, in evaluation mode; what it does is nobody's training."""
        own = self.state_dict()
        return self._with({name: own[name] for name in self._twin[0].state_dict()})

    @property
    def reference(self) -> OneRec:
        """The same with the weights of before alignment."""
        own = self.state_dict()
        return self._with({name: own[_kept(name)] for name in self._twin[0].state_dict()})

    def loss(self, walk: Walk) -> Tensor:
        """Words that come; whether items are liked; and, late in training, which sessions are."""
        told = super().loss(walk) + self.reward_loss(walk)
        if self.progress < self.align_from:
            return told
        if not self.ready:
            own = self.state_dict()
            for name in self._twin[0].state_dict():
                own[_kept(name)].copy_(own[name])
            self.aligning.fill_(True)
        some = torch.randperm(len(walk.items), device=walk.items.device)[: self.pairs]
        few = Walk(walk.profile.take(some), *(part[some] for part in walk[1:]))
        return told + self.weight * self.preference_loss(few)

    def reward_loss(self, walk: Walk) -> Tensor:
        """Cross-entropy of labels of items at some places; the states they are told from learn nothing."""
        row, place = some_places(walk.items, self.places)
        with torch.no_grad():
            memory, _ = self._listen(walk.profile.take(row), walk.items[row, :-1])
        at = place[..., None].expand(-1, -1, self.dim) - 1
        item, liked = walk.items[row].gather(1, place), walk.liked[row].gather(1, place)
        logit = self.reward(memory.gather(1, at), item[..., None])[..., 0]
        known = ~liked.isnan()
        each = F.binary_cross_entropy_with_logits(logit, liked.nan_to_num(), reduction="none")
        return (each * known).sum() / known.sum().clamp(min=1)

    def preference_loss(self, walk: Walk) -> Tensor:
        """DPO over the best and the worst of the sessions that a beam writes for each user.

        Both policies are asked without dropout, so that they begin alike.
        """
        best, worst, there = self.pair(walk)
        walk = Walk(walk.profile.take(there), *(part[there] for part in walk[1:]))
        sessions = torch.stack([best, worst], 1)  # (B, 2, S)
        with torch.no_grad():
            before = self.reference.chances(walk, sessions)
        was = self.training
        self.eval()
        gain = self.chances(walk, sessions) - before
        self.train(was)
        return dpo(gain[:, 0], gain[:, 1], self.beta)

    @torch.no_grad()
    def pair(self, walk: Walk) -> tuple[Tensor, Tensor, Tensor]:
        """Sessions (P, S) with the greatest and with the least reward of those that a beam writes, and the
        numbers (P,) of the users for whom it writes two or more."""
        writer = self.writer
        sessions, chance = writer.write(walk, self.session, self.candidates)
        state = writer._listen(walk.profile, walk.history)[0][:, -1]
        reward = self.reward(state, sessions.flatten(1)).sigmoid().view(sessions.shape).sum(-1)
        legal = chance.isfinite()
        there = (legal.sum(1) > 1).nonzero()[:, 0]
        best = reward.masked_fill(~legal, -torch.inf).argmax(1)[there]
        worst = reward.masked_fill(~legal, torch.inf).argmin(1)[there]
        return sessions[there, best], sessions[there, worst], there

    def _with(self, state: dict[str, Tensor]) -> OneRec:
        twin = self._twin[0]
        twin.load_state_dict(state, assign=True)
        return twin


def keep_biases(network: OneRec) -> None:
    """Let all routers that can keep a selection bias, so that weights are the same whoever balances them."""
    for layer in moe_layers(network).values():
        with suppress(ValueError):
            layer.router.keep_bias()


def _kept(name: str) -> str:
    """Of a weight the name under which that of the reference is kept."""
    return f"before_{name.replace('.', '_')}"


def dpo(better: Tensor, worse: Tensor, beta: float) -> Tensor:
    """Direct preference optimisation, the mean of -log sigmoid(beta (better - worse)); 0 of no pair.

    Args:
        better, worse: (B,) by how much the log probability of either has risen over the reference's.
        beta: temperature.
    """
    each = -F.logsigmoid(beta * (better - worse))
    return each.sum() / max(len(each), 1)
