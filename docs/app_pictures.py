"""Draw the pictures of the app: a quick look at ``weapon`` in headless Chromium, in a minute.

    python docs/app_pictures.py [--out FOLDER]

It starts ``sgrace app``, clicks as a person does, and takes ``app.png`` at a desk and ``app-phone.png`` on a
phone that prefers dark.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
sys.path.append(str(DOCS.parent))

from tests.browser import Browser, Page  # noqa: E402

CONCEPT = "weapon"
ATTACK = "random_tokens"
#: Windows, and widths of the pictures.
DESK, PHONE = (1228, 1180), (390, 844)
DESK_PICTURE, PHONE_PICTURE = 920, 330
#: Height of the line that stays at the top.
STICKY = 110


@contextmanager
def served(log: Path) -> Iterator[str]:
    """The address of a server of its own."""
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "sgrace", "app", "--port", "0"], stdout=out, stderr=out
        )
    while not (found := re.search(r"The app is at (http\S+);", log.read_text())):
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.2)
    try:
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def erase_and_attack(page: Page) -> None:
    """Click through a quick look and an attack."""
    page.click("#concept input")
    page.js("document.querySelector('#concept input').select()")
    page.type(CONCEPT)
    page.key("Enter")
    page.wait(f"document.querySelector('#note').innerText.includes('{CONCEPT}:')")
    page.click("#erase")
    page.wait("document.querySelectorAll('#gallery figure').length > 0")
    page.click("#attack-name input")
    page.click(f"[role=option][aria-label={ATTACK}]")
    page.click("#attack")
    page.wait(f"document.querySelector('#attacks').innerText.includes('{ATTACK}')")
    page.wait("!document.querySelector('#erase').disabled")


def picture(page: Page, file: Path, size: tuple[int, int], width: int, top: str = "body") -> None:
    """What a window shows from an element on, as a picture of a width and of 128 colours."""
    page.resize(*size)
    page.call("Emulation.setScrollbarsHidden", hidden=True)
    page.js(f"scrollTo(0, document.querySelector('{top}').getBoundingClientRect().top + scrollY - {STICKY})")
    time.sleep(1)  # bars and colours fade
    page.picture(file, whole=False)
    with Image.open(file) as found:
        small = found.convert("RGB").resize((width, width * size[1] // size[0]), Image.Resampling.LANCZOS)
    small.quantize(128).save(file, optimize=True)


def main() -> None:
    """Start the app and take both pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the two pictures")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "log") as address:
        browser = Browser(Path(folder) / "profile")
        with browser.page(address, DESK[0]) as page:
            erase_and_attack(page)
            picture(page, out / "app.png", DESK, DESK_PICTURE)
            page.prefer(dark=True)
            picture(page, out / "app-phone.png", PHONE, PHONE_PICTURE, "#outcome")
        browser.close()


if __name__ == "__main__":
    main()
