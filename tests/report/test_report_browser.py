"""The page in a real browser: phone and desktop, light and dark; what it shows and how it sorts.

Chromium prints the page after a probe at its end has looked at it, and takes a screenshot. No
driver is needed, and nothing is fetched. Without a browser on the machine the tests skip.
"""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from run_directories import analysed, conditions, make

from dst_jax import report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
)
# Before everything else, so that it hears of every error.
LISTENER = """<script>
window.faults = [];
addEventListener("error", e => faults.push(String(e.message || e.target.outerHTML)), true);
addEventListener("unhandledrejection", e => faults.push(String(e.reason)));
console.error = (...words) => faults.push(words.join(" "));
</script>"""
PROBE = """<script>
(async () => {
  const root = document.documentElement;
  const pictures = [...document.querySelectorAll("svg image")].map(i => i.getAttribute("href"));
  const broken = [];
  for (const source of [...pictures, ...[...document.images].map(i => i.src)]) {
    const picture = new Image();
    await new Promise(done => {
      picture.onload = done;
      picture.onerror = () => { broken.push(source.slice(0, 60)); done(); };
      picture.src = source;
    });
  }
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  const wide = [...document.querySelectorAll("main > *, details > *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML);
  const table = document.querySelector("table.sortable");
  const column = i => [...table.tBodies[0].rows].map(r => r.cells[i]?.textContent ?? "");
  const sorts = {};
  for (const [name, i] of [["method", 0], ["clean", 3]]) {
    const button = table.tHead.rows[0].cells[i].querySelector("button");
    for (const turn of [1, 2]) {
      button.focus();
      const reached = document.activeElement === button && button.tabIndex === 0;
      button.click();
      const order = button.parentElement.getAttribute("aria-sort");
      sorts[name + turn] = {reached, order, cells: column(i), methods: column(0)};
    }
  }
  document.querySelectorAll("details").forEach(d => { d.open = false; });
  const link = table.querySelector("td a");
  location.hash = link.getAttribute("href");
  await new Promise(done => setTimeout(done, 100));
  const found = {
    faults, broken, wide, sorts,
    pictures: pictures.length,
    width: innerWidth,
    overflow: root.scrollWidth - root.clientWidth,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector("svg text")).fill,
    smallest: Math.min(...[...document.querySelectorAll("svg text")]
      .map(t => [t, t.getScreenCTM()])
      .map(([t, m]) => parseFloat(getComputedStyle(t).fontSize) * Math.hypot(m.a, m.b))),
    opened: document.querySelector(location.hash).open,
    fetched: performance.getEntriesByType("resource").map(e => e.name)
      .filter(n => !n.startsWith("data:")),
    unsortable: document.querySelectorAll("table:not(.sortable)").length,
  };
  parent.postMessage(JSON.stringify(found), "*");
})();
</script>"""
# Chromium has no window narrower than 500 pixels, but frames.
FRAME = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<script>addEventListener("message", e => {
  document.body.innerHTML = "<pre id=probe></pre>";
  document.getElementById("probe").textContent = e.data;
});</script>
<body><iframe src="probed.html" width="WIDTH" height="3000" style="border: 0"></iframe></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of three analysed runs and one that was cut short, and copies with the probe."""
    root = tmp_path_factory.mktemp("browser")
    runs = [
        analysed(make(root, "dense", 0.0, 0, conditions(0.92, 0.5))),
        analysed(make(root, "rigl", 0.5, 0, conditions(0.98, 0.6))),
        analysed(make(root, "set", 0.3, 0, conditions(0.9, 0.4))),
        make(root, "static", 0.5, upto=120, name="a_directory_with_a_name_that_is_rather_long"),
    ]
    page = report.write(runs, root / "out").html_path
    text = page.read_text(encoding="utf-8")
    probed = page.with_name("probed.html")
    probed.write_text(
        text.replace("<head>", "<head>" + LISTENER, 1).replace("</body>", PROBE + "</body>"),
        encoding="utf-8",
    )
    for width in (390, 1200):
        frame = page.with_name(f"frame{width}.html")
        frame.write_text(FRAME.replace("WIDTH", str(width)))
    return page


def browse(page, profile, width, dark, *arguments):
    """Opens a page and gives back what Chromium printed."""
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    place = [f"--user-data-dir={profile}", f"--window-size={width},3000", scheme]
    return subprocess.run(
        [BROWSER, *QUIET, *place, *arguments, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1200, False)])
def test_the_page_as_a_browser_sees_it(page, tmp_path, width, dark):
    frame = page.with_name(f"frame{width}.html")
    dom = browse(frame, tmp_path, 1400, dark, "--dump-dom", "--virtual-time-budget=10000")
    found = json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S)[1]))
    assert found["width"] == width
    assert found["overflow"] == 0
    assert found["wide"] == []
    assert found["faults"] == found["broken"] == found["fetched"] == []
    assert found["pictures"] >= 20
    assert found["dark"] is dark
    paper, ink = (np.mean(list(map(int, re.findall(r"\d+", found[k])))) for k in ("paper", "ink"))
    assert (paper < 60 and ink > 200) if dark else (paper > 240 and ink < 60)
    assert found["smallest"] > 9  # pixels of the least letter in a figure
    assert found["opened"], "a link to a run opens it"
    assert found["unsortable"] == 0
    sorts = found["sorts"]
    assert all(sort["reached"] for sort in sorts.values())
    assert [sorts[name]["order"] for name in ("method1", "method2")] == ["ascending", "descending"]
    assert [sorts[name]["order"] for name in ("clean1", "clean2")] == ["descending", "ascending"]
    assert sorts["method1"]["cells"] == ["dense", "rigl", "set", "static"]
    assert sorts["method2"]["cells"] == ["set", "rigl", "dense", "static"]  # no numbers: last
    assert sorts["clean1"]["methods"] == ["rigl", "dense", "set", "static"]
    assert sorts["clean2"]["methods"] == ["set", "dense", "rigl", "static"]


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
def test_a_screenshot_shows_the_page(page, tmp_path, width, dark):
    shot = tmp_path / "shot.png"
    browse(page, tmp_path / "profile", width, dark, f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("L"))
    assert pixels.shape == (3000, width)
    assert (pixels[0, 0] < 60) if dark else (pixels[0, 0] > 240)
    # Something is drawn in every tenth of the height.
    assert all(len(np.unique(part)) > 30 for part in np.array_split(pixels, 10))
