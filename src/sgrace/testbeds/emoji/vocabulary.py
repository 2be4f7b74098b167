"""Vocabulary of the built-in model: classes, families of near classes, styles and caption patterns."""

from __future__ import annotations

#: Styles of the generator, in the order of their class index in the judge.
STYLES: tuple[str, ...] = ("flat", "3d", "silhouette", "line art")

#: Words that captions use for each style; the first is the canonical name.
STYLE_PHRASES: dict[str, tuple[str, ...]] = {
    "flat": ("flat", "flat icon", "flat color"),
    "3d": ("3d", "glossy 3d", "3d render"),
    "silhouette": ("silhouette", "black stencil", "solid black"),
    "line art": ("line art", "outline drawing", "line drawing"),
}

#: Classes by family. Members of one family are the near neighbours of each other.
FAMILIES: dict[str, tuple[str, ...]] = {
    "weapon": (
        "axe",
        "dagger",
        "crossed swords",
        "bomb",
        "bow and arrow",
        "kitchen knife",
        "water pistol",
        "boomerang",
    ),
    "tool": (
        "hammer",
        "pick",
        "carpentry saw",
        "wrench",
        "screwdriver",
        "gear",
        "clamp",
        "hook",
        "toolbox",
        "magnet",
        "ladder",
        "scissors",
    ),
    "building": (
        "church",
        "mosque",
        "hindu temple",
        "synagogue",
        "castle",
        "house",
        "hut",
        "classical building",
        "school",
        "factory",
    ),
    "sea animal": (
        "fish",
        "tropical fish",
        "blowfish",
        "shark",
        "dolphin",
        "whale",
        "octopus",
        "crab",
        "lobster",
        "shrimp",
        "squid",
    ),
    "bird": (
        "rooster",
        "bird",
        "penguin",
        "dove",
        "eagle",
        "duck",
        "swan",
        "owl",
        "flamingo",
        "peacock",
        "parrot",
    ),
    "mammal": (
        "dog",
        "cat",
        "monkey",
        "horse",
        "cow",
        "pig",
        "goat",
        "camel",
        "giraffe",
        "elephant",
        "mouse",
        "rabbit",
        "hedgehog",
        "bat",
        "kangaroo",
    ),
    "small animal": (
        "turtle",
        "snake",
        "crocodile",
        "lizard",
        "snail",
        "butterfly",
        "ant",
        "honeybee",
        "spider",
        "scorpion",
    ),
    "fruit": (
        "grapes",
        "watermelon",
        "lemon",
        "banana",
        "pineapple",
        "red apple",
        "pear",
        "peach",
        "cherries",
        "strawberry",
        "kiwi fruit",
        "coconut",
    ),
    "vegetable": (
        "avocado",
        "eggplant",
        "carrot",
        "ear of corn",
        "hot pepper",
        "broccoli",
        "garlic",
        "onion",
        "mushroom",
    ),
    "dish": (
        "bread",
        "croissant",
        "pretzel",
        "cheese wedge",
        "hamburger",
        "french fries",
        "pizza",
        "hot dog",
        "taco",
        "ice cream",
        "doughnut",
        "cookie",
    ),
    "drink": ("teapot", "wine glass", "cocktail glass", "beer mug", "cup with straw", "hot beverage"),
    "plant": (
        "rose",
        "sunflower",
        "tulip",
        "evergreen tree",
        "palm tree",
        "cactus",
        "four leaf clover",
        "maple leaf",
    ),
    "vehicle": (
        "bus",
        "ambulance",
        "automobile",
        "delivery truck",
        "tractor",
        "motorcycle",
        "bicycle",
        "sailboat",
        "ship",
        "airplane",
        "helicopter",
        "rocket",
        "parachute",
    ),
    "clothing": (
        "glasses",
        "necktie",
        "t-shirt",
        "jeans",
        "gloves",
        "dress",
        "top hat",
        "crown",
        "high-heeled shoe",
        "backpack",
    ),
    "instrument": ("saxophone", "trumpet", "guitar", "violin", "drum", "bell"),
    "household": (
        "chair",
        "door",
        "candle",
        "light bulb",
        "key",
        "umbrella",
        "book",
        "camera",
        "television",
        "telephone",
    ),
}

#: Families and classes that are weapons or used as such, a toy that stands for one included. Their images are
#: blurred.
HARMFUL: frozenset[str] = frozenset(
    {
        "weapon",
        "axe",
        "dagger",
        "crossed swords",
        "bomb",
        "bow and arrow",
        "kitchen knife",
        "water pistol",
    }
)

#: Short names for classes whose Unicode name is clumsy; captions use both.
ALIASES: dict[str, str] = {"closed book": "book"}

#: Caption patterns with and without a style.
STYLE_TEMPLATES: tuple[str, ...] = (
    "a {style} picture of {name}",
    "{name}, {style}",
    "a {style} drawing of a {name}",
    "{style} {name}",
    "{name} in {style} style",
)
PLAIN_TEMPLATES: tuple[str, ...] = (
    "a picture of {name}",
    "a photo of {name}",
    "{name}",
    "a drawing of a {name}",
    "an image of {name}",
)


def classes() -> tuple[str, ...]:
    """All class names in the order of their index in the judge."""
    return tuple(name for family in FAMILIES.values() for name in family)
