"""Attacks that learn one thing for all prompts, several times: each start is one observation."""

from __future__ import annotations

from ..models import Conditioning
from .attack_set import Start
from .session import Session


def attacked(session: Session) -> list[int]:
    """Prompts that the protocol attacks, whatever has succeeded."""
    return [i for i in range(len(session.attempts)) if i not in session.left_alone]


def check_start(session: Session, word: str, cond: Conditioning, learned_from: str = "") -> None:
    """Sample and judge an image of every attacked prompt's seed; the images of the worst start are kept.

    Args:
        session: the run.
        word: that the start began with.
        cond: what was learned, one row for each of the attacked prompts.
        learned_from: prompt of the images that it learned from, where it has one of its own.
    """
    indices = attacked(session)
    detector = session.scene.detector
    images = session.sample(indices, cond, session.noise[indices])
    scores = detector.scores(images)
    hits: list[bool] = detector.detect(scores).tolist()
    # the worst start counts, so its images are shown
    is_worst = all(sum(hits) > start.hits for start in session.starts)
    session.starts.append(Start(word=word, learned_from=learned_from, hits=sum(hits), n=len(indices)))
    # `at` counts the attacked prompts, `index` all of the scene
    for at, index in enumerate(indices):
        attempt = session.attempts[index]
        attempt.checks += 1
        if is_worst:
            attempt.success = hits[at]
            attempt.score = scores[at].item()
            session.keep(index, images[at], {name: value[at] for name, value in cond.tensors().items()})
