"""Forecasting of many series by one model: data, baselines and a routed forecaster."""

COMMANDS = ("m4",)
