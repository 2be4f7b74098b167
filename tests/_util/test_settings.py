"""Settings given as text: what is wrong is said once, by the name the user gave."""

from __future__ import annotations

import math

import pytest
from pydantic import BaseModel, ConfigDict, Field

from sgrace._util.errors import InputError
from sgrace._util.settings import config_from, parse_pairs


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(3, gt=0)
    scale: float = 1.0
    scales: tuple[float, ...] = (1.0,)
    seconds: float = math.inf


class Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


def test_settings_are_put_on_top_of_the_preset() -> None:
    found = config_from(Config, {"steps": 4, "scale": 2.0}, {"scale": "3"})
    assert (found.steps, found.scale, found.seconds) == (4, 3.0, math.inf)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": "3"}, "Attack 'pez' has no setting 'step'; did you mean 'steps'?"),
        ({"steps": "0"}, "Setting steps of attack 'pez': Input should be greater than 0 (given '0')."),
        ({"scale": "nan"}, "Setting scale of attack 'pez': nan is not a finite number."),
        ({"scale": "inf"}, "Setting scale of attack 'pez': inf is not a finite number."),
        ({"seconds": "nan"}, "Setting seconds of attack 'pez': nan is not a finite number."),
    ],
)
def test_bad_settings_are_one_sentence(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as error:
        config_from(Config, {}, settings, owner="attack 'pez'")
    assert str(error.value) == message


def test_numbers_within_sequences_and_presets_are_finite() -> None:
    with pytest.raises(InputError, match="Setting scales"):
        config_from(Config, {"scales": [1.0, math.nan]})
    assert config_from(Config, {}, {"seconds": "inf"}).seconds == math.inf, "its default says: without limit"


def test_without_an_owner_and_without_settings() -> None:
    with pytest.raises(InputError, match=r"^Unknown limit 'step'; did you mean 'steps'"):
        config_from(Config, {}, {"step": "1"}, "limit")
    with pytest.raises(InputError, match=r"^Attack 'none' has no settings.$"):
        config_from(Nothing, {}, {"tries": "1"}, owner="attack 'none'")


def test_pairs() -> None:
    assert parse_pairs(["a=1", "words=x=y", "empty="]) == {"a": "1", "words": "x=y", "empty": ""}
    for bad in ("rounds", "=1", " =1"):
        with pytest.raises(InputError, match=r"^--limit takes KEY=VALUE, not"):
            parse_pairs([bad], "--limit")
    with pytest.raises(InputError, match=r"^--set gives 'a' twice"):
        parse_pairs(["a=1", "a=2"])
