"""What a person does on the page, and what they see there."""

from __future__ import annotations

import base64
import json
import time
from contextlib import suppress
from pathlib import Path

from ..browser import Page

MEASURE = """(() => {
  const all = [...document.querySelectorAll('.gradio-container *')].filter(e => e.getClientRects().length);
  const name = e => e.tagName + '.' + e.className + ' ' + (e.innerText || '').slice(0, 40);
  const past = e => e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1;
  const own = [...document.querySelectorAll('.sg *, .sg')].filter(e => e.getClientRects().length);
  const wide = e => e.clientWidth && e.scrollWidth > e.clientWidth + 1;
  const still = e => e.closest('.frame, .bar, progress');
  return {
    wide: document.documentElement.scrollWidth > innerWidth,
    outside: all.filter(past).filter(e => !still(e)).map(name),
    cut: own.filter(e => !still(e) && wide(e)).map(name),
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector('.sg')).color,
    buttons: [...document.querySelectorAll('button:not(.label-wrap)')].filter(wide).map(name),
  };
})()"""

#: Where the keyboard stands: a ring of two pixels is around it, and nothing is in front.
STANDS = """(() => {
  const e = document.activeElement, box = e.closest(".frame") || e, r = box.getBoundingClientRect();
  if (e === document.body) return "";
  const what = `${e.tagName}.${e.className} ${e.closest("[id]")?.id}`, ring = getComputedStyle(box);
  if (ring.outlineStyle === "none" || parseFloat(ring.outlineWidth) < 2) return `no ring: ${what}`;
  const seen = document.elementFromPoint(r.x + r.width / 2, r.y + Math.min(r.height, 30) / 2);
  // out of the window is what moved when something above it grew; the next key brings it back
  return !seen || seen.contains(e) || box.contains(seen) ? "" : `hidden: ${what}`;
})()"""


def choose(page: Page, concept: str) -> None:
    page.click("#concept input")
    page.js("document.querySelector('#concept input').select()")
    page.type(concept)
    page.key("Enter")


def pick(page: Page, box: str, name: str) -> None:
    """Choose from a list: click on its box, and again where the page was not ready yet, then on the name."""
    option = f"[role=option][aria-label={name}]"
    page.wait("!!document.querySelector('#erase')")
    for _ in range(20):
        page.js("document.activeElement?.blur()")
        page.click(f"{box} input")
        with suppress(AssertionError):
            page.wait(f"!!document.querySelector('{option}')", 2)
            break
    page.click(option)
    page.wait(f"document.querySelector('{box} input').value === '{name}'")


def built_in(page: Page) -> None:
    """Choose the built-in model, which brings a judge of its own."""
    pick(page, "#model", "emoji")
    page.wait("document.querySelector('#judge input')?.value !== 'clip_zero_shot'")


def has(page: Page, selector: str, text: str) -> None:
    """Wait for a text in an element."""
    shown = f"(document.querySelector({json.dumps(selector)}) || {{innerText: ''}}).innerText"
    page.wait(f"{shown}.includes({json.dumps(text)})")


def looks_right(page: Page, width: int, *, dark: bool) -> None:
    """Nothing is cut or beside the page, and colours are as the reader wants them."""
    page.resize(width)
    page.prefer(dark=dark)
    page.wait(f"document.body.classList.contains('dark') === {str(dark).lower()}")
    found = page.js(MEASURE)
    assert not found["wide"]
    assert found["outside"] == []
    assert found["cut"] == []
    assert found["buttons"] == []
    brightness = {
        name: sum(map(int, found[name].strip("rgba()").split(",")[:3])) for name in ("paper", "ink")
    }
    assert (brightness["paper"] < brightness["ink"]) is dark


def to(page: Page, selector: str, *, back: bool = False) -> None:
    """Go to an element with the Tab key; wherever the keyboard stands on the way is seen."""
    for _ in range(60):
        if page.js(f"!!document.activeElement.closest({json.dumps(selector)})"):
            return
        page.key("Tab", shift=back)
        # lists of choices take a moment to fold
        ends = time.monotonic() + 3
        while (told := page.js(STANDS)) and time.monotonic() < ends:
            time.sleep(0.05)
        assert told == "", told
    raise AssertionError(f"the keyboard does not reach {selector}")


def fetched(page: Page) -> bytes:
    """What the link of the page gives."""
    read = """fetch(document.querySelector('#link a').href).then(a => a.blob()).then(
      b => new Promise(done => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result.split(',')[1]);
      reader.readAsDataURL(b);
    }))"""
    return base64.b64decode(page.js(read))


def wait_for(file: Path) -> None:
    """Wait until a download is there; until then it has another name."""
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end, f"nothing was downloaded: {list(file.parent.iterdir())}"
        time.sleep(0.05)
