"""Tests of the erasers."""
