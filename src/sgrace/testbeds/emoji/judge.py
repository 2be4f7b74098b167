"""The judge: an image classifier of class and style, trained apart from the generator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from . import vocabulary

#: File beside the weights: the judge's scores of real drawings of known class and style.
VALIDATION = "judge_validation.safetensors"


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = (
            nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            if stride > 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


@dataclass(frozen=True)
class Verdict:
    """Probabilities.

    Attributes:
        classes: ``(n, n_classes + 1)``; the last column is "none of them".
        styles: ``(n, n_styles)``.
    """

    classes: Tensor
    styles: Tensor


class _Network(nn.Module):
    def __init__(self, outputs: int, widths: tuple[int, ...] = (32, 64, 128, 224)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        pairs = zip((widths[0], *widths[:-1]), widths, strict=True)
        self.blocks = nn.Sequential(*(_Residual(i, o, 1 if i == o else 2) for i, o in pairs))
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(images)).mean((2, 3)))
        return logits


class Judge(nn.Module):
    """One residual network for the class and one for the style.

    The class must not depend on colour; of the style, colour is a part. Takes RGB images ``(n, 3, 64, 64)``
    in -1..1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.concept = _Network(len(vocabulary.classes()) + 1)
        self.style = _Network(len(vocabulary.STYLES))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of class and style."""
        return self.concept(images), self.style(images)

    @torch.no_grad()
    def judge(self, images: Tensor, batch: int = 128) -> Verdict:
        """Probabilities for images ``(n, 3, 64, 64)`` in -1..1."""
        logits = [self(chunk) for chunk in images.split(batch)]
        return Verdict(
            torch.cat([c.softmax(1) for c, _ in logits]), torch.cat([s.softmax(1) for _, s in logits])
        )

    @classmethod
    def from_pretrained(cls, path: Path) -> Judge:
        """Load ``judge.safetensors`` from a folder."""
        judge = cls()
        judge.load_state_dict(
            {
                name: value.float() if value.is_floating_point() else value
                for name, value in load_file(path / "judge.safetensors").items()
            }
        )
        return judge.eval()
