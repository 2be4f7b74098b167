"""Tests; none of them waits for a hub that it does not need."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the hub's client is imported
