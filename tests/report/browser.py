"""A page in headless Chromium: what stands where, at a width, in a scheme of colours, on paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..browser import Browser, Page

#: What a reader sees, with everything folded open: where it stands, and in which colours.
MEASURE = """(() => {
  const style = getComputedStyle, round = Math.round;
  const name = e => `${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 40)}`;
  const box = e => e.getBoundingClientRect();
  const drawn = e => e.getClientRects().length > 0 && style(e).clipPath === "none";
  const all = [...document.body.querySelectorAll("*")].filter(e => !e.closest(".tip, script") && drawn(e));
  // runs of text and images, with their boxes
  const things = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || e.closest(".tip, script, .veil") || !drawn(e)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const r of range.getClientRects()) {
      if (r.width && r.height) things.push({e, r, text: node.data.trim()});
    }
  }
  for (const e of document.querySelectorAll(".frame, .bar, img.plot")) {
    things.push({e, r: box(e), text: name(e)});
  }
  const overlaps = [];
  for (let i = 0; i < things.length; i++) for (let j = i + 1; j < things.length; j++) {
    const a = things[i], b = things[j];
    if (a.e === b.e) continue;
    const w = Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left);
    const h = Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top);
    // line boxes of small text beside large text share a few pixels of empty line height
    if (w > 2 && h > 6) overlaps.push([a.text.slice(0, 40), b.text.slice(0, 40), round(w), round(h)]);
  }
  // a phone shows more of a page that is too wide, in smaller letters: what counts is its layout
  const edge = document.documentElement.clientWidth;
  const past = e => box(e).right > edge + 1 || box(e).left < -1;
  const label = e => style(e, "::before").content;
  return {
    overlaps, width: innerWidth, title: document.title, things: things.length,
    drawn: [...document.images].filter(i => i.naturalWidth > 0).length, images: document.images.length,
    wide: document.documentElement.scrollWidth > edge,
    outside: all.filter(past).filter(e => !e.closest(".frame")).map(name),
    cut: all.filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
      && !e.matches(".frame, .frame *, .term")).map(name),
    cells: all.filter(e => e.matches("td")).map(e => [e.dataset.label, label(e), box(e).width]),
    paper: style(document.body).backgroundColor, ink: style(document.body).color,
    contrasts: all.filter(e => e.matches(".soft, .tag, .bad, b, figcaption, summary, .evidence"))
      .map(e => style(e).color),
    papers: [...new Set(all.filter(e => !e.closest(".bar, .veil")).map(e => style(e).backgroundColor))],
    folded: [...document.querySelectorAll("details > :not(summary)")].filter(e => !e.checkVisibility({
      contentVisibilityAuto: true, opacityProperty: true, visibilityProperty: true })).map(name),
    controls: all.filter(e => e.matches("input, .live") || /[▲▼↕]/.test(style(e, "::after").content))
      .map(name),
    filters: [...document.querySelectorAll(".veil img")].map(e => style(e).filter),
  };
})()"""

#: Each word with an explanation that is on the page: gone to with the keyboard, above or below the fold.
TIPS = """(async () => {
  const settled = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const found = [];
  for (const e of document.querySelectorAll(".term")) {
    const head = e.closest("th");
    if (!e.getClientRects().length || (head && getComputedStyle(head).clipPath !== "none")) continue;
    e.scrollIntoView({ block: found.length % 2 ? "start" : "end", behavior: "instant" });
    e.focus({ preventScroll: true });
    await settled();
    const tip = e.querySelector(".tip"), r = tip.getBoundingClientRect();
    found.push({
      word: e.firstChild.data, text: tip.textContent,
      shown: getComputedStyle(tip).display !== "none" && r.height > 0,
      inside: r.left >= -1 && r.top >= -1 && r.right <= innerWidth + 1 && r.bottom <= innerHeight + 1,
    });
  }
  document.activeElement.blur();
  return found;
})()"""
UNFOLD = "document.querySelectorAll('details').forEach(e => { e.open = true; })"


def shown(page: Page, width: int, *, dark: bool = False, paper: bool = False) -> dict[str, Any]:
    """Measures of the page in a window of that width, or laid out for paper; screens show it unfolded."""
    page.resize(width)
    page.prefer(dark=dark, paper=paper)
    page.js("document.querySelectorAll('details').forEach(e => { e.open = false; })" if paper else UNFOLD)
    found: dict[str, Any] = page.js(MEASURE)
    return found


def nothing_is_cut(found: dict[str, Any], width: int) -> None:
    """Everything is in sight, tables too, and nothing stands on something else."""
    assert found["width"] == width
    assert found["things"] > 200, "there is something to compare"
    assert found["drawn"] == found["images"]
    assert found["overlaps"] == []
    assert not found["wide"]
    assert found["outside"] == []
    assert found["cut"] == [], "no text is wider than its box, no table than the page"


def look(browser: Browser, file: Path, width: int) -> dict[str, Any]:
    """Measures of a file that is opened for this alone."""
    with browser.page(file.as_uri(), width) as page:
        page.wait("document.readyState === 'complete'")
        return shown(page, width)


def brightness(colour: str) -> int:
    """Sum of red, green and blue of ``rgb(...)``."""
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3])


def contrast(colour: str, paper: str) -> float:
    """Contrast ratio of two colours as WCAG 2 defines it: 4.5 is enough for small text."""

    def luminance(text: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", text)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted([luminance(colour), luminance(paper)], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
