"""One case per eraser. A new eraser adds one line here and the contract tests run on it."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """How the contract tests run one eraser on a tiny model."""

    name: str
    short: dict[str, str]  # settings that make a run short
    off: dict[str, str]  # settings on top of `short` that switch the erasing off: nothing may change


def settings(text: str) -> dict[str, str]:
    """Settings as they stand on the command line, ``KEY=VALUE`` separated by spaces."""
    return dict(pair.split("=", 1) for pair in text.split())


OFF = settings("iterations=0")
ESD = settings("iterations=2 batch=2 pool=3 num_inference_steps=4 lr=1e-3")
RELABEL = settings("iterations=2 batch=2 n_images=4 num_inference_steps=3 lr=1e-3")
SGRACE = settings("rounds=1 attack_steps=2 edit_steps=3 n_adversarial=3 n_retain=4 num_inference_steps=10")
ABLATION = settings("iterations=2 batch=2 num_inference_steps=3 lr=1e-3")
ADV_UNLEARN = settings(
    "iterations=3 warm_up=1 attack_steps=2 pool=4 n_retain=3 num_inference_steps=3 lr=1e-3"
)
SPM = settings("iterations=3 batch=2 num_inference_steps=3 n_retain=1 lr=1e-2 warm_up=1")
STEREO_SEARCH = settings("rounds=1 search_iterations=2 inversion_steps=2 n_images=2 image_steps=3")
STEREO_TRAIN = settings("site=x iterations=2 batch=2 num_inference_steps=3 lr=1e-3")
RECARE = settings("mining_images=2 top_words=3 n_retain=3")
MACE = settings("iterations=2 batch=2 n_images=3 num_inference_steps=3 n_prompts=5 ridge=1 lr=1e-2")

CASES = {
    case.name: case
    for case in (
        Case("sgrace", short=SGRACE, off={"rounds": "0"}),
        Case("uce", short={}, off={"ridge": "1e9"}),
        Case("rece", short={"epochs": "2"}, off={"ridge": "1e9", "epochs": "0"}),
        Case("esd", short={**ESD, "site": "x"}, off=OFF),
        Case("race", short={**ESD, "site": "x", "plain_iterations": "1", "attack_steps": "2"}, off=OFF),
        Case("concept_ablation", short=ABLATION, off=OFF),
        Case("salun", short=RELABEL, off=OFF),
        Case("erasediff", short={**RELABEL, "replacement": ""}, off=OFF),
        Case("forget_me_not", short={**RELABEL, "inversion_steps": "2"}, off=OFF),
        Case("spm", short=SPM, off=OFF),
        Case("speed", short={"threshold": "3"}, off={"ridge": "1e10"}),
        Case("adv_unlearn", short=ADV_UNLEARN, off=OFF),
        Case("stereo", short={**STEREO_SEARCH, **STEREO_TRAIN, "n_anchors": "3"}, off=OFF),
        Case("recare", short={**STEREO_SEARCH, **STEREO_TRAIN, **RECARE}, off=OFF),
        Case("hirm", short={"iterations": "3", "lr": "1e-2"}, off=OFF),
        Case("des", short={"iterations": "3", "batch": "2", "n_prompts": "4", "lr": "1e-2"}, off=OFF),
        Case("tea", short={"iterations": "3", "batch": "4", "n_prompts": "4", "lr": "1e-2"}, off=OFF),
        Case("sld", short={"warm_up": "0"}, off={"scale": "0"}),
        Case("safree", short={"filter_steps": "50", "middle": "-10"}, off={"filter_steps": "0"}),
        Case("receler", short={**ESD, "rank": "3", "attack_steps": "2", "lr": "1e-2"}, off=OFF),
        Case("mace", short=MACE, off={"iterations": "0", "ridge": "1e10"}),
    )
}
