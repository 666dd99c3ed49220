"""Recommendation: many tasks on one impression, and the next item of a user, by mixtures of experts."""

COMMANDS = ("schema",)
