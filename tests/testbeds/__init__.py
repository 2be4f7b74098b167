"""Tests of testbeds."""
