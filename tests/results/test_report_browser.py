"""The report in a browser, opened as a file: tabs, tables, explorer, print; nothing is cut."""

import re

import pytest

from inpaint_lib.results import figures, report, tables
from tests import browsers
from tests.results import synthetic

pytestmark, browser = browsers.MARKS, browsers.browser
SIZES = {"desk": (1440, 900), "phone": (390, 844), "zoomed": (720, 450)}  # zoomed: 200 %
LOOKS = [*((size, "light") for size in SIZES), ("desk", "dark")]  # a size changes no colour
DRAWN = ("answer", "pairs", "sizes", "grid", "heat", "stages", "curves", "schedules")
OTHERS = ["runs/faces_custom_progressive_seed1.html", "images/faces_0.html"]
OTHERS.append("notebooks/training.html")
TABS = ["answer", "faces-custom", "faces-free_form", "runs", "images", "study", "glossary"]

# what is wider than the page, cut, or of too little contrast
MEASURE = """() => {
  const root = document.documentElement, page = root.clientWidth, found = [];
  const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length;
  const scrolls = (e) => e.closest(".wide, .ix-scroll, .notebook table, .output_subarea");
  if (root.scrollWidth > page) found.push(`page ${root.scrollWidth}`);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const options = { willReadFrequently: true };
  const canvas = document.createElement("canvas").getContext("2d", options);
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const weights = [0.2126, 0.7152, 0.0722];
  const light = (rgb) => weights.reduce((sum, w, k) => sum + w * linear(rgb[k] / 255), 0);
  const back = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255];
  };
  for (const e of document.querySelectorAll("body *")) {
    if (!seen(e) || (e.closest("svg") && e.tagName !== "svg")) continue;
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const name = `${e.tagName} ${e.getAttribute("class")} ${e.textContent.trim().slice(0, 30)}`;
    const outside = box.right > page + 1 || box.left < -1;
    if (!scrolls(e) && outside) found.push(`wide ${Math.round(box.right)} ${name}`);
    const cuts = style.overflowX === "hidden" && e.scrollWidth > e.clientWidth + 1;
    if (own && cuts) found.push(`cut ${name}`);
    const cell = e.matches("td, th");
    if (cell && e.scrollWidth > e.clientWidth + 1) found.push(`spills ${name}`);
    if (!own || e.tagName === "OPTION" || e.disabled) continue;
    const [a, b] = [rgba(style.color), back(e)].map(light).sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`contrast ${ratio.toFixed(1)} ${name}`);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study with words, controls, two architectures and a run that diverged."""
    results = synthetic.study(
        datasets=["faces"],
        architectures=["custom", "free_form"],
        setups=["fixed", "progressive", "adv_ramp", "mixed", "last_only"],
        seeds=range(3),
        profile="small",
        noise=0.02,
        effect=synthetic.EFFECT | {"progressive": 1.3},  # the widest number has a plus
        diverged=("faces/free_form/mixed/seed2",),
    )
    results.about["left_out"] = {"faces/external/mine": "scored with other settings"}
    folder = tmp_path_factory.mktemp("report")
    report.save_figures(folder / "figures", figures.draw(results, *DRAWN), pdf=False)
    tables.write(results, folder / "tables")
    notebook = synthetic.notebook(folder / "notebook.ipynb", "A line.")
    run, widths, n = "faces/custom/fixed/seed0", results.widths, len(results.fills["faces/truth"])
    recordings = {run: synthetic.recording(folder / "recording.npz", widths, n)}
    pages = [("Training", notebook, "training.html", run)]
    report.build(results, folder, pages, recordings)
    return folder


@pytest.fixture
def opened(browser, folder):
    """opened(address, size, **options) -> a page whose requests and errors are checked."""
    asked, wrong = [], []

    def open_page(address="index.html", size="desk", **options):
        width, height = SIZES[size]
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        name, _, place = address.partition("#")
        page.goto((folder / name).as_uri() + (f"#{place}" if place else ""))
        return page

    yield open_page
    assert not wrong
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    for context in list(browser.contexts):
        context.close()


def test_tabs_have_addresses_and_history(opened):
    page = opened("index.html#faces-custom")
    shown = page.locator(".tab:visible")
    assert shown.count() == 1 and shown.get_attribute("id") == "faces-custom"
    page.click('nav a[href="#runs"]')
    assert page.locator("#runs").is_visible() and not page.locator("#faces-custom").is_visible()
    page.go_back()
    page.wait_for_selector("#faces-custom", state="visible")
    assert page.locator("nav a[aria-current]").inner_text() == "custom"
    for tab in TABS:
        page.goto(page.url.split("#")[0] + f"#{tab}")
        page.wait_for_function("id => document.getElementById(id).checkVisibility()", arg=tab)
        assert page.evaluate("document.documentElement.scrollHeight") <= 12000


def test_the_first_screen_asks_answers_and_says_how_sure(opened):
    page = opened()
    for selector in ("h1", ".answer", ".opening", ".cards .interval"):
        box = page.locator(selector).first.bounding_box()
        assert box["y"] + box["height"] <= 900, selector
    assert "How sure?" in page.locator(".first").inner_text()


def test_tables_sort_filter_hide_setups_and_are_copied(opened):
    page = opened("index.html#faces-custom")
    table = page.locator("#faces-custom .table").first
    values = (
        "t => [...t.querySelectorAll('tbody tr:not([hidden])')].map(r => +r.cells[1].dataset.v)"
    )
    table.locator("thead tr:last-child th").nth(1).locator("button").click()
    up = table.evaluate(values)
    assert up == sorted(up) and len(up) == 9
    table.locator("thead tr:last-child th").nth(1).locator("button").press("Enter")
    assert table.evaluate(values) == up[::-1]
    table.get_by_role("button", name="mixed").click()
    assert len(table.evaluate(values)) == 8
    table.get_by_label("filter rows").fill("pro")
    assert len(table.evaluate(values)) == 1
    page.evaluate(
        "() => Object.defineProperty(navigator, 'clipboard',"
        " { value: { writeText: async (t) => { window.copied = t; } } })"
    )
    for kind, begin in {"CSV": "setup,hole L1,", "Markdown": "| setup | hole L1 |"}.items():
        table.get_by_role("button", name=kind).click()
        page.wait_for_function("window.copied")
        lines = page.evaluate("window.copied").splitlines()
        assert lines[0].startswith(begin) and "progressive" in lines[-1]
    table.get_by_role("button", name="LaTeX").click()
    page.wait_for_function("window.copied.startsWith('\\\\begin{tabular}')")
    box = table.locator("thead th").first
    assert box.evaluate("e => getComputedStyle(e).position") == "sticky"


CROOKED = """() => [...document.querySelectorAll("table")].flatMap((table) => {
  const cells = table.tBodies[0].rows[0].cells, heads = table.tHead ? [...table.tHead.rows] : [];
  const side = (e) => getComputedStyle(e).textAlign, last = heads.length ? heads.pop().cells : [];
  return [...last].filter((head, k) => side(head) !== side(cells[k])).map((e) => e.textContent);
})"""


def test_heads_stand_above_their_columns(opened):
    for address in ("index.html", "runs/faces_custom_progressive_seed1.html"):
        assert opened(address).evaluate(CROOKED) == [], address


def test_terms_are_explained_by_click_key_and_touch(opened):
    page = opened()
    button = page.locator(".first .term", has_text="fixed").first
    tip = page.locator("#t-fixed")
    button.focus()
    page.keyboard.press("Enter")
    assert tip.is_visible() and "largest hole from the first step" in tip.inner_text()
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    phone = opened(size="phone", has_touch=True)
    phone.locator(".first .term", has_text="fixed").first.tap()
    box = phone.locator("#t-fixed").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_the_explorer_works_from_a_file(opened):
    page = opened("index.html#faces-free_form")
    page.click('#faces-free_form a[href="#explore"]')
    page.wait_for_selector(".ix-panel-fills canvas")
    chosen = page.locator('.ix-pill[aria-pressed="true"]').all_inner_texts()
    assert "free_form" in chosen and "last_only" in chosen
    assert page.locator(".ix-tabs button").all_inner_texts() == [
        *("Health", "Game", "Stages × widths", "Images", "Wipe")
    ]
    pixels = "e => [...e.getContext('2d').getImageData(0, 0, e.width, e.height).data].join()"
    fill = page.locator(".ix-panel-fills .ix-tile canvas.ix-pixels").nth(1)
    page.wait_for_function(
        "document.querySelector('.ix-panel-fills').textContent.includes('L1 0.')"
    )
    after = fill.evaluate(pixels)
    curve = page.locator(".ix-plot .ix-above").first
    box = curve.bounding_box()
    curve.hover(position={"x": box["width"] / 4, "y": 40})
    page.wait_for_function("document.querySelector('.ix-when').textContent.includes('stage 1')")
    page.wait_for_timeout(300)
    assert fill.evaluate(pixels) != after
    page.keyboard.press("Escape")
    page.locator(".ix-time").focus()
    page.keyboard.press("ArrowLeft")
    assert "end of stage" in page.locator(".ix-when").inner_text()
    page.click('[data-tab="wipe"]')
    canvas = page.locator(".ix-panel-wipe .ix-pixels").first
    page.wait_for_function("document.querySelector('.ix-panel-wipe .ix-pixels').width === 32")
    before = canvas.evaluate(pixels)
    page.get_by_label("where the two pictures meet").fill("0")
    assert canvas.evaluate(pixels) != before
    page.click('[data-tab="scatter"]')
    page.wait_for_selector(".ix-dots")
    assert "test images better" in page.locator(".ix-panel-scatter .ix-note").inner_text()


def test_the_explorer_shows_maps_of_runs_with_a_recording(opened):
    page = opened("index.html#explore")
    page.wait_for_selector(".ix-panel-fills .ix-maps canvas")
    tiles = page.locator(".ix-panel-fills .ix-tile").filter(has=page.locator(".ix-maps canvas"))
    assert tiles.count() == 1 and "fixed" in tiles.inner_text()
    assert tiles.locator(".ix-maps canvas").evaluate_all("a => a.map(c => c.width)") == [4, 2]
    assert "what D says" in page.locator(".ix-panel-fills .ix-note").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_black_curve_is_seen_on_a_dark_page(opened, scheme):
    page = opened("index.html#explore", color_scheme=scheme)
    page.wait_for_selector(".ix-panel-fills canvas")
    colour = page.evaluate(
        """() => {
          const { host } = document.getElementById("explorer");
          const setups = { fixed: { colour: "#000000" } };
          const other = window.inpaint.makeHost({ ...host.meta, setups }, host.request, false);
          window.inpaint.mount(document.body.appendChild(document.createElement("div")), other);
          return setups.fixed.colour;
        }"""
    )
    white = re.search(r"#fff (\d+)%", colour)
    assert colour == "#000000" if scheme == "light" else int(white[1]) > 30


def test_every_key_reaches_what_a_mouse_does(opened):
    page = opened("index.html#faces-custom")
    page.evaluate("document.querySelectorAll('.tab.open details').forEach(d => d.open = true)")
    wanted = page.evaluate(
        "() => [...document.querySelectorAll('a[href], button, input, summary')]"
        ".filter(e => e.checkVisibility()).map((e, k) => (e.dataset.nth = k))"
    )
    reached = set()
    for _ in range(len(wanted) + 60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => +document.activeElement.dataset.nth"))
    assert set(wanted) <= reached


def test_pages_turn_by_keys_and_a_run_is_found(opened):
    page = opened("runs/faces_custom_fixed_seed0.html")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/faces_custom_fixed_seed1.html")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/faces_custom_fixed_seed0.html")
    page.goto(page.url.replace("runs/faces_custom_fixed_seed0", "index"))
    page.keyboard.press("/")
    page.keyboard.type("free mixed seed2")
    assert page.locator("#runs tbody tr:visible").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**/faces_free_form_mixed_seed2.html")


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_nothing_is_cut_or_hard_to_read(opened, size, scheme):
    page = opened(size=size, color_scheme=scheme)
    for tab in [*TABS, "explore"]:
        page.goto(page.url.split("#")[0] + f"#{tab}")
        page.wait_for_function("id => document.getElementById(id).checkVisibility()", arg=tab)
        if tab == "explore":
            page.wait_for_selector(".ix-panel-fills canvas")
        page.evaluate("document.querySelectorAll('.tab.open details').forEach(d => d.open = true)")
        assert page.evaluate(MEASURE) == [], tab
    for name in OTHERS:
        other = opened(name, size=size, color_scheme=scheme)
        assert other.evaluate(MEASURE) == [], name


def test_without_javascript_and_in_print_all_tabs_are_shown(opened, tmp_path):
    plain = opened(java_script_enabled=False)
    assert all(plain.locator(f"#{tab}").is_visible() for tab in TABS)
    assert not plain.locator("#explore").is_visible()
    page = opened()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 within its margins, at 96 dpi
    assert all(page.locator(f"#{tab}").is_visible() for tab in TABS)
    assert page.locator("#faces-custom .static figcaption").is_visible()
    assert not page.locator("#explore").is_visible()
    assert page.evaluate(MEASURE) == []
    printed = page.pdf(format="A4")
    kept = page.evaluate("kept.filter((i) => i.complete && i.naturalWidth).map((i) => i.src)")
    assert any(name.endswith("sheets/faces.png") for name in kept)
    assert printed.count(b"/Type /Page\n") > len(TABS)
