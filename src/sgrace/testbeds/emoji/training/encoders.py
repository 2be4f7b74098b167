"""Stages ``tokenizer`` and ``clip``: a small BPE vocabulary and contrastive text and image encoders."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from .. import vocabulary
from .loop import Schedule, train
from .training_data import Caption, EmojiData, augment, to_float

TEXT_LENGTH = 32
PROJECTION = 128  # width of the space that texts and images share
VOCABULARY_SIZE = 3072
BUILT_IN_SHARE = 0.85  # of the training images; the rest of the art widens the vocabulary


def train_tokenizer(data: EmojiData, out: Path) -> CLIPTokenizer:
    """Learn the byte-pair merges from every name, keyword and caption pattern; save to ``out``."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers  # noqa: PLC0415  (only training needs it)

    text = [w for name, words in zip(data.names, data.keywords, strict=True) for w in (name, *words)]
    for template in vocabulary.STYLE_TEMPLATES:
        text += [
            template.format(name=name, style=style)
            for name in data.names[: data.n_classes]
            for style in vocabulary.STYLES
        ]
    text += [t.format(name=n) for t in vocabulary.PLAIN_TEMPLATES for n in data.names]
    for phrases in vocabulary.STYLE_PHRASES.values():
        text += [phrase for phrase in phrases for _ in range(20)]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    text = [t.lower() for t in text]
    ends = {word[-1] for t in text for word, _ in bpe.pre_tokenizer.pre_tokenize_str(t)}
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 2,
        # in a fixed order: by itself it numbers ends of words at random, and merges depend on these numbers
        special_tokens=[f"{letter}</w>" for letter in sorted(ends)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(text, trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges: list[Any] = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]
    in_order = sorted(learned["vocab"], key=learned["vocab"].get)
    words = dict.fromkeys(sorted(in_order, key=len)[:256])  # bytes first, as in CLIP's own vocabulary
    words |= dict.fromkeys(in_order)
    words |= dict.fromkeys(f"{letter}</w>" for letter in sorted(pre_tokenizers.ByteLevel.alphabet()))
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TEXT_LENGTH)
    tokenizer.save_pretrained(out)
    return tokenizer


def new_clip(tokenizer: CLIPTokenizer, seed: int) -> CLIPModel:
    """Untrained text encoder (192 wide, 4 layers) and image encoder (128 wide, patches of 8 pixels)."""
    torch.manual_seed(seed)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        projection_dim=PROJECTION,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=64,
        patch_size=8,
        projection_dim=PROJECTION,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=PROJECTION)
    )


def true_pairs(data: EmojiData, captions: list[Caption], pictures: Tensor) -> Tensor:
    """``[i, j]`` is 1 where caption i is true of image j.

    The word must name the image's class, and the style, if the caption has one, must be the image's.
    """
    labels, styles = data.label[pictures].tolist(), data.style[pictures].tolist()
    rows = [
        [
            label in data.means[c.word] and c.style in (None, style)
            for label, style in zip(labels, styles, strict=True)
        ]
        for c in captions
    ]
    return torch.tensor(rows, dtype=torch.float32)


def train_clip(
    data: EmojiData, clip: CLIPModel, tokenizer: CLIPTokenizer, work: Path, schedule: Schedule, seed: int
) -> tuple[CLIPModel, float]:
    """Contrastive training in which every caption that is true of an image counts as its positive."""
    device, batch = clip.device, schedule.batch
    built_in, rest = data.pictures(built_in=True), data.pictures(built_in=False)

    def loss_at(step: int) -> Tensor:
        rng = random.Random(f"{seed}/{step}")
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        n_built_in = round(BUILT_IN_SHARE * batch)
        chosen = [
            pool[torch.randint(len(pool), (n,), generator=generator)]
            for pool, n in ((built_in, n_built_in), (rest, batch - n_built_in))
        ]
        pictures = torch.cat(chosen)
        captions = [data.caption(int(i), rng) for i in pictures]
        tokens = tokenizer(
            [c.text for c in captions], padding=True, truncation=True, return_tensors="pt"
        ).input_ids.to(device)
        images = augment(
            to_float(data.images[pictures].to(device)), generator, shift=0.08, scale=0.15, rotate=15
        )
        out = clip(input_ids=tokens, pixel_values=images)
        truth = true_pairs(data, captions, pictures).to(device)
        per_text = F.cross_entropy(out.logits_per_text, truth / truth.sum(1, keepdim=True))
        per_image = F.cross_entropy(out.logits_per_text.T, truth.T / truth.T.sum(1, keepdim=True))
        return (per_text + per_image) / 2

    loss = train("clip", clip, loss_at, schedule, work)
    return clip, loss
