"""A toy app: a few points, a small mixture, seconds to train."""
