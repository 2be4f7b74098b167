"""Erasers: one file per method; ``_shared`` holds what several of them use."""
