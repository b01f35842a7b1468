"""How large report pages are and how long a browser takes to open them: many blocks, classes, samples, and one of each.

Pages of synthetic captures (those of the tests). A page is opened by headless Chromium, as a fresh process with a fresh
profile, at 1280 x 900 pixels; a script added to it reports the browser's own clock, which starts with the navigation:
at the first paint of content, from when on the text is read and scrolled; when the page is open, with the figures
within a screen of the reader; and when it has drawn all of them, as it does before printing. The CPU seconds of the
page's thread until then are what both take where nothing else runs. Run:
python benchmarks/open_pages.py [--runs 3] [--chromium PATH]
"""

from __future__ import annotations

import argparse
import http.server
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import psutil

from resdyn.report import render_page, write_comparison

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

WITHOUT_STATES = ("singular", "coupling", "spectrum")
PAGES: dict[str, dict[str, Any]] = {
    "8 blocks, all probes": {},
    "100 blocks": {"n_samples": 2, "n_blocks": 100, "rank": 8, "probes": ("trajectory", *WITHOUT_STATES)},
    "1,000 classes": {"n_samples": 4, "num_classes": 1000, "probes": ("trajectory", "singular", "features")},
    "10,000 samples": {"n_samples": 10_000},
    "1 block": {"n_blocks": 1},
    "1 class": {"num_classes": 1},
    "1 sample": {"n_samples": 1},
}
SCRIPT = """<script>
(async function () {
  while (!document.documentElement.dataset.ready) await new Promise((go) => setTimeout(go, 10));
  await new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)));
  const open = performance.now(), paint = performance.getEntriesByName("first-contentful-paint")[0];
  await fetch("http://127.0.0.1:PORT/?open=" + open + "&paint=" + (paint ? paint.startTime : "nan"),
    { mode: "no-cors" });
  const start = performance.now(), left = "figure[data-figure]:not([data-drawn])";
  window.dispatchEvent(new Event("beforeprint"));
  while (document.querySelector(left)) await new Promise((go) => setTimeout(go, 10));
  fetch("http://127.0.0.1:PORT/?drawn=" + (open + performance.now() - start)
    + "&errors=" + encodeURIComponent(document.documentElement.dataset.errors || ""), { mode: "no-cors" });
})();
</script></body>"""
TIMEOUT_SECONDS = 120


class Clock:
    """A server on this machine to which a page reports its times."""

    def __init__(self) -> None:
        clock = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                said = {name: found[0] for name, found in parse_qs(urlparse(self.path).query).items()}
                clock.reported |= said | {f"busy {next(iter(said))}": str(page_seconds(clock.browser))}
                self.send_response(204)  # the page continues when its time is read
                self.end_headers()
                if "drawn" in said:
                    clock.arrived.set()

            def log_message(self, *words: Any) -> None:
                pass

        self.reported: dict[str, str] = {}
        self.browser = 0
        self.arrived = threading.Event()
        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def opened(self, chromium: str, page: str) -> tuple[float, ...]:
        """Seconds until the first paint, until it is open, of CPU until then, and the same until all is drawn."""
        script = SCRIPT.replace("PORT", str(self.server.server_port))
        own = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", script)
        self.arrived.clear()
        self.reported = {}
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "page.html"
            path.write_text(own, encoding="utf-8")
            words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1280,900"]
            words += [
                "--disable-background-networking",
                f"--user-data-dir={folder}/profile",
                "--remote-debugging-port=0",
            ]
            browser = subprocess.Popen([chromium, *words, path.as_uri()], stderr=subprocess.DEVNULL)
            self.browser = browser.pid
            try:
                if not self.arrived.wait(TIMEOUT_SECONDS):
                    raise TimeoutError(f"the page was not drawn within {TIMEOUT_SECONDS} s")
            finally:
                browser.terminate()
                browser.wait()
        if self.reported.get("errors"):
            raise RuntimeError(self.reported["errors"])
        paint, opened, drawn = (float(self.reported[name]) / 1000 for name in ("paint", "open", "drawn"))
        return paint, opened, float(self.reported["busy open"]), drawn, float(self.reported["busy drawn"])


def page_seconds(browser: int) -> float:
    """CPU seconds of the thread that reads, lays out and draws a page: what opening takes on an idle core."""
    renderers = [p for p in psutil.Process(browser).children(recursive=True) if "--type=renderer" in p.cmdline()]
    return max(t.user_time + t.system_time for p in renderers for t in p.threads() if t.id == p.pid)


def pages() -> dict[str, str]:
    """The page of each kind."""
    from synthetic import synthetic_dataset

    made = {}
    for name, size in PAGES.items():
        start = time.perf_counter()
        made[name] = render_page(synthetic_dataset(**size))
        print(f"{name}: made in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        runs = [synthetic_dataset(n_blocks=8), synthetic_dataset(n_blocks=5)]
        made["comparison of two"] = write_comparison(runs, Path(folder) / "c.html").read_text(encoding="utf-8")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    asked = parser.parse_args()
    clock = Clock()
    version = subprocess.run([asked.chromium, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{version}, {machine}; median of {asked.runs}\n")
    print("| page | MB | first paint, s | open, s | CPU, s | all figures, s | CPU, s |\n|---|--:|--:|--:|--:|--:|--:|")
    for name, page in pages().items():
        times = [clock.opened(asked.chromium, page) for _ in range(asked.runs)]
        medians = " | ".join(f"{statistics.median(column):.2f}" for column in zip(*times, strict=True))
        print(f"| {name} | {len(page.encode()) / 1e6:.1f} | {medians} |", flush=True)


if __name__ == "__main__":
    main()
