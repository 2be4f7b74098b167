"""A page in headless Chromium: what stands where, at a width and in a scheme of colours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import unquote

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESK, TABLET, PHONE = 1280, 768, 390

#: Runs in the page; it measures, and tells the frame around it.
PROBE = """
<script>window.addEventListener("load", async () => {
  const style = getComputedStyle, round = Math.round;
  const name = e => `${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 40)}`;
  document.querySelectorAll("details").forEach(e => { e.open = true; });
  const all = [...document.body.querySelectorAll("*")].filter(e => !e.closest(".tip, script"));
  const box = e => e.getBoundingClientRect();
  // what a reader sees: runs of text and images, with their boxes
  const things = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || e.closest(".tip, script, .veil, .scroll")) continue;
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
  const inside = e => e.closest(".scroll");
  const past = e => box(e).right > innerWidth + 1 || box(e).left < -1;
  // a tip takes its place after the page has scrolled to its word
  const settled = () => new Promise(done => setTimeout(done, 20));
  const tips = [];
  for (const e of document.querySelectorAll(".term")) {
    e.scrollIntoView({ block: tips.length % 2 ? "start" : "end", behavior: "instant" });
    await settled();
    e.focus({ preventScroll: true });
    await settled();
    const tip = e.querySelector(".tip"), r = box(tip);
    tips.push({
      word: e.firstChild.data, shown: style(tip).display !== "none" && r.height > 0, text: tip.textContent,
      inside: r.left >= -1 && r.top >= -1 && r.right <= innerWidth + 1 && r.bottom <= innerHeight + 1,
    });
  }
  document.activeElement.blur();
  const veil = document.querySelector(".seen .veil");
  const found = {
    overlaps, tips, width: innerWidth, title: document.title, things: things.length,
    drawn: [...document.images].filter(i => i.naturalWidth > 0).length, images: document.images.length,
    wide: document.documentElement.scrollWidth > innerWidth,
    outside: all.filter(e => !inside(e) && past(e)).map(name),
    cut: all.filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
      && !e.matches(".scroll, .frame, .frame *, .term")).map(name),
    scrolling: [...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth + 1)
      .map(e => e.getAttribute("aria-label")),
    paper: style(document.body).backgroundColor, ink: style(document.body).color,
    contrasts: all.filter(e => e.matches(".soft, .tag, .bad, b, figcaption, summary, .evidence"))
      .map(e => style(e).color),
  };
  if (veil) {
    const frame = veil.parentElement, image = veil.querySelector("img"), tick = veil.querySelector("input");
    const filters = [style(image).filter];
    for (let i = 0; i < 2; i++) { tick.click(); filters.push(style(image).filter); }
    Object.assign(found, { filters, focusable: tick.tabIndex === 0, frame: style(frame).borderTopColor,
      frameWidth: parseFloat(style(frame).borderTopWidth), frameFilter: style(frame).filter,
      clean: style(document.querySelector("figure:not(.seen) .frame")).borderTopColor });
  }
  const sorts = [...document.querySelectorAll("th button")];
  if (sorts.length) {
    const table = sorts[0].closest("table"), at = sorts[1].parentElement.cellIndex;
    const column = () => [...table.tBodies[0].rows].map(row => row.cells[at].dataset.value ?? null);
    found.sorted = [column()];
    for (let i = 0; i < 2; i++) { sorts[1].click(); found.sorted.push(column()); }
    found.ariaSort = sorts[1].parentElement.getAttribute("aria-sort");
  }
  parent.postMessage(JSON.stringify(found), "*");
});</script>
"""
FRAME = """
<body><iframe src="probed.html" style="border:0;width:{width}px;height:900px"></iframe>
<script>addEventListener("message", e => {{
  document.body.dataset.found = btoa(encodeURIComponent(e.data));
}});</script></body>
"""


def look(page: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
    """Measures of a page in a frame of that width, with everything folded open."""
    # the page's own policy would keep the probe from running
    text = re.sub(r"<meta http-equiv=.Content-Security-Policy[^>]*>", "", page.read_text())
    (page.parent / "probed.html").write_text(text.replace("</body>", PROBE + "</body>"))
    (page.parent / "frame.html").write_text(FRAME.format(width=width))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", scheme, "--window-size=1400,1000"]
    command += ["--virtual-time-budget=4000", "--dump-dom", (page.parent / "frame.html").as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told = re.search(r'data-found="([^"]+)"', run.stdout)
    assert told, run.stdout[:500]
    found: dict[str, Any] = json.loads(unquote(b64decode(told.group(1)).decode()))
    return found


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
