"""Weights of the models that were trained without a concept; read by ``sgrace.testbeds.emoji.gold``."""
