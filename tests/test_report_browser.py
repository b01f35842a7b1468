"""The page in a real browser: every picture drawn, no error, text stays text, offline."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from resdyn.report import render_page, write_comparison, write_report
from synthetic import synthetic_dataset

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "<script>alert(1)</script>"
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no headless Chromium here: install chromium to run these"),
]

# Appended to the page: does what a reader would do and leaves what it sees in the document.
PROBE = """
<script>
(async function () {
  const root = document.documentElement;
  while (!root.dataset.ready) await new Promise((go) => setTimeout(go, 20));
  const figures = Array.from(document.querySelectorAll("figure[data-figure]"));
  const drawn = () => figures.filter((figure) => figure.dataset.drawn).length;
  const heights = figures.map((figure) => figure.offsetHeight);
  const seen = { copied: "", text: "", overflow: root.scrollWidth - root.clientWidth, near: drawn() };
  figures.at(-1).scrollIntoView({ behavior: "instant" });
  window.dispatchEvent(new Event("scroll"));  // the browser's own comes with a frame, which virtual time may skip
  while (!figures.at(-1).dataset.drawn) await new Promise((go) => setTimeout(go, 20));
  seen.scrolled = drawn();
  window.dispatchEvent(new Event("beforeprint"));
  seen.printed = figures.filter((figure) => figure.querySelector(".main-svg")).length;
  while (drawn() < figures.length) await new Promise((go) => setTimeout(go, 20));
  seen.grown = Math.max(...figures.map((figure, k) => Math.abs(figure.offsetHeight - heights[k])));
  seen.cut = Array.from(document.querySelectorAll(".scroll"))
    .filter((box) => !box.querySelector(".stream") && box.scrollWidth > box.clientWidth).map((box) => box.innerText);
  const captions = Array.from(document.querySelectorAll("figcaption *"));
  seen.right = Math.max(...captions.map((e) => e.getBoundingClientRect().right));
  seen.tall = Array.from(document.querySelectorAll(".tools button"), (b) => b.offsetHeight).filter((h) => h > 40);
  Object.defineProperty(navigator, "clipboard", { value: { writeText: async (t) => { seen.copied = t; } } });
  document.getElementById("copy-metrics").click();
  const grid = document.querySelector("#coupling_grid .plot");
  const select = document.querySelector("#coupling_grid select");
  select.selectedIndex = 1;
  select.dispatchEvent(new Event("change"));
  await new Promise((go) => setTimeout(go, 200));
  seen.visible = grid.data.map((t) => t.visible);
  seen.choice = select.options[1].label;
  const paths = document.querySelector("#random_trajectories .plot");
  Plotly.Fx.hover(paths, [{ curveNumber: 0, pointNumber: 0 }]);
  seen.hover = document.querySelector("#random_trajectories .hoverlayer").textContent;
  seen.legend = document.querySelector("#random_trajectories .legend").textContent;
  seen.tick = Array.from(document.querySelectorAll("#coupling_grid .xtick text"), (t) => t.textContent);
  seen.buttons = Array.from(document.querySelectorAll("#coupling_grid .tools button"), (b) => b.textContent);
  seen.modebar = Array.from(document.querySelectorAll("#coupling_grid .modebar-btn"), (b) => b.dataset.title);
  const energy = document.querySelector("#diagonal_energy .plot");
  seen.written = Boolean(energy.data[0].texttemplate);
  Plotly.Fx.hover(energy, { xval: 0, yval: 1 });
  await new Promise((go) => setTimeout(go, 100));
  seen.pair = document.querySelector("#diagonal_energy .hoverlayer").textContent;
  const click = (row, column) => grid.emit("plotly_click", { points: [{ pointIndex: [row, column] }] });
  const ranges = () => [grid.layout.yaxis.range, grid.layout.xaxis.range].map((ends) => ends.slice());
  const whole = ranges();
  click(0, grid.layout.meta.square);
  await new Promise((go) => setTimeout(go, 200));
  seen.alone = ranges();
  click(0, 0);
  await new Promise((go) => setTimeout(go, 200));
  seen.again = JSON.stringify(ranges()) === JSON.stringify(whole);
  seen.square = grid.layout.meta.square;
  seen.svg = (await Plotly.toImage(grid, { format: "svg" })).slice(0, 18);
  seen.png = (await Plotly.toImage(grid, { format: "png" })).slice(0, 14);
  seen.saved = [];
  HTMLAnchorElement.prototype.click = function () { seen.saved.push([this.download, this.href.slice(0, 5)]); };
  for (const button of document.querySelectorAll("#coupling_grid .tools button")) {
    button.click();
    await new Promise((go) => setTimeout(go, 800));
  }
  const note = document.createElement("pre");
  note.id = "seen";
  note.textContent = JSON.stringify(seen);
  document.body.append(note);
})();
</script>
"""


def probed(page: str) -> str:
    """The page with a script of the test's own, which its policy would refuse."""
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", PROBE + "</body>")


def open_page(path: Path, profile: Path, width: int = 1280, height: int = 900) -> tuple[str, str]:
    """The document after its program ran, and what the console said."""
    command = [
        str(BROWSER),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--virtual-time-budget=30000",
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
        OFFLINE,
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console)


def seen(dom: str) -> dict:
    (text,) = re.findall(r'<pre id="seen">(.*?)</pre>', dom, re.S)
    return json.loads(html.unescape(text))


@pytest.fixture(scope="module")
def visit(tmp_path_factory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("browser")
    ds = synthetic_dataset(n_samples=6, n_blocks=8, angle=0.2, class_names=[EVIL, "b & c", "<i>d</i>", "e"])
    ds.attrs |= {"model": EVIL, "command": f"resdyn demo {EVIL}"}
    ds.attrs["stream"][0]["path"] = EVIL
    path = folder / "report.html"
    path.write_text(probed(render_page(ds)), encoding="utf-8")
    return open_page(path, folder / "profile")


def test_every_figure_is_drawn_and_the_console_is_silent(visit):
    dom, console = visit
    figures = re.findall(r'<figure id="(\w+)"[^>]*>', dom)
    assert len(figures) == 22
    assert dom.count('data-drawn="true"') == len(figures)
    assert "data-errors" not in re.findall(r"<html[^>]*>", dom)[0]
    assert console == ""


def test_figures_are_drawn_near_the_reader_and_all_of_them_before_printing(visit):
    found = seen(visit[0])
    assert found["near"] <= found["scrolled"] < 22
    assert found["near"] < 6
    assert found["printed"] == 22
    assert found["grown"] < 200  # the place of a figure is kept until it is drawn: tools and long legends add to it


def test_text_of_users_stays_text_in_page_legend_hover_and_choices(visit):
    dom, _ = visit
    found = seen(dom)
    assert EVIL in found["legend"]
    assert "<i>d</i>" in found["legend"]
    assert EVIL in found["hover"]
    assert EVIL in found["choice"]
    assert "<script>alert" not in re.sub(r"<script>.*?</script>", "", dom, count=2, flags=re.S)
    assert f"<h1>{html.escape(EVIL)}" in dom


def test_choosing_a_sample_shows_its_picture_alone(visit):
    shown = seen(visit[0])["visible"]
    assert shown[1] is True
    assert sum(v is True for v in shown) == 1


def test_a_click_shows_a_pair_of_blocks_large_and_the_next_one_all(visit):
    found = seen(visit[0])
    size = found["square"]
    assert found["alone"] == [[size - 0.5, -0.5], [size - 0.5, 2 * size - 0.5]]
    assert found["again"]


def test_a_grid_with_room_has_its_numbers(visit):
    assert seen(visit[0])["written"]


def test_the_pair_of_blocks_is_named_on_hover(visit):
    assert "i: block 1" in seen(visit[0])["pair"]
    assert EVIL in seen(visit[0])["pair"]


def test_the_copied_table_is_tab_separated_with_exact_values(visit):
    lines = seen(visit[0])["copied"].splitlines()
    assert lines[0].split("\t")[:4] == ["metric", "value", "standard error", "by chance"]
    assert len({line.count("\t") for line in lines}) == 1
    slope = next(line for line in lines if line.endswith("inverse_scaling_slope"))
    assert abs(float(slope.split("\t")[1]) - 1) < 1e-9


def test_figures_can_be_saved_as_svg_and_png_and_nothing_offers_an_upload(visit):
    found = seen(visit[0])
    assert found["buttons"] == ["SVG", "PNG"]
    assert found["svg"].startswith("data:image/svg+xml")
    assert found["png"].startswith("data:image/png")
    assert [name for name, _ in found["saved"]] == ["coupling_grid.svg", "coupling_grid.png"]
    assert not any("loud" in title or "hare" in title for title in found["modebar"])


def test_each_block_of_the_grid_has_one_tick(visit):
    assert seen(visit[0])["tick"] == ["0", "1", "2", "3"]


def test_the_page_fits_a_phone(tmp_path):
    path = tmp_path / "report.html"
    names = ["a class with a long name", "another class with a long name", "c", "d"]
    ds = synthetic_dataset(n_samples=3, n_blocks=12, class_names=names)
    for block in ds.attrs["stream"]:
        block["path"] = f"encoder.stages.{block['path']}.branch.of.a.long.path"
    narrow = "<style>html { width: 385px; }</style></head>"  # below 500 pixels the window itself does not go
    path.write_text(probed(render_page(ds)).replace("</head>", narrow), encoding="utf-8")
    dom, console = open_page(path, tmp_path / "profile", width=500)
    found = seen(dom)
    assert found["overflow"] <= 0
    assert found["cut"] == []
    assert found["right"] <= 385
    assert found["tall"] == []  # a button of one line is lower than two
    assert not found["written"]
    assert console == ""


def test_a_script_that_is_not_the_page_s_own_is_not_run(tmp_path):
    path = tmp_path / "report.html"
    foreign = "<script>document.documentElement.dataset.foreign = 'ran'</script></body>"
    path.write_text(render_page(synthetic_dataset(n_samples=2)).replace("</body>", foreign), encoding="utf-8")
    dom, console = open_page(path, tmp_path / "profile")
    assert 'data-ready="true"' in dom
    assert "data-foreign" not in re.findall(r"<html[^>]*>", dom)[0]
    assert "Content Security Policy" in console


def test_a_dataset_without_probes_opens_too(tmp_path):
    path = write_report(synthetic_dataset(probes=[]), tmp_path / "report.html")
    dom, console = open_page(path, tmp_path / "profile")
    assert 'data-ready="true"' in dom
    assert "<figure" not in re.sub(r"<script>.*?</script>", "", dom, flags=re.S)
    assert console == ""


def test_the_comparison_draws_every_figure_and_titles_stay_text(tmp_path):
    runs = [synthetic_dataset(n_blocks=8), synthetic_dataset(n_blocks=5)]
    page = write_comparison(runs, tmp_path / "c.html", titles=[EVIL, "second"])
    dom, console = open_page(page, tmp_path / "profile", height=15_000)
    figures = re.findall(r'<figure id="(\w+)"[^>]*>', dom)
    assert len(figures) == 12
    assert dom.count('data-drawn="true"') == len(figures)
    assert "data-errors" not in re.findall(r"<html[^>]*>", dom)[0]
    assert console == ""
    assert EVIL not in dom
