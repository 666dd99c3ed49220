"""Concept drift: a mixture that learns from a stream, adapts, and tells which expert it trusts."""
