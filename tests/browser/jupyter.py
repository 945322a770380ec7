"""Uses JupyterLab as a person would, in headless Chromium, and fails unless what they would see is there.

    jupyter.py first URL --screenshot FILE                    a new notebook: prints, plots, sets a variable
    jupyter.py again URL --screenshot FILE --notebook NAME    the same notebook: the variable is still there

URL is what JupyterLab prints, token included. On success one line of JSON on stdout: the notebook's name and how many
seconds each step took. On failure the screenshot shows what was on the page.
"""

import argparse
import json
import sys
import time
from urllib.parse import quote, urlsplit, urlunsplit

from playwright.sync_api import Error, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--no-first-run"]

PRINT = "print('answer', 6 * 7)"
PLOT = (
    "%matplotlib inline\n"
    "import matplotlib.pyplot as plt, numpy as np\n"
    "x = np.linspace(0, 6.28, 200); plt.plot(x, np.sin(x)); plt.title('sine'); plt.show()"
)
SET = "kept = 'value-' + str(6 * 7 * 1000)"
SHOW = "print('still', kept)"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["first", "again"])
    parser.add_argument("url")
    parser.add_argument("--screenshot", required=True)
    parser.add_argument("--notebook")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for each step")
    return parser.parse_args()


# Tabs in the background are on the page too, hidden.
NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden)"


def run_cell(page, code):
    """Puts code into the last cell, which must be empty, and runs it. Gives the cell."""
    cells = page.locator(f"{NOTEBOOK} .jp-CodeCell")
    # Cells appear one after the other; the empty one is the last.
    expect(cells.last.locator(".cm-content")).to_have_text("")
    count = cells.count()
    cell = cells.nth(count - 1)
    editor = cell.locator(".cm-content")
    editor.click()
    expect(editor).to_be_focused()
    page.keyboard.insert_text(code)
    expect(editor).to_contain_text(code.splitlines()[0])
    page.keyboard.press("Shift+Enter")
    # Running the last cell makes a new one below it.
    expect(cells).to_have_count(count + 1)
    return cell


def wait_for_kernel(page):
    """Until the kernel is there, JupyterLab replaces what it shows, and with it what has been typed."""
    page.locator(f"{NOTEBOOK} .cm-content").first.wait_for()
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")


def new_notebook(page):
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    wait_for_kernel(page)
    return page.locator("#jp-main-dock-panel .lm-TabBar-tab.jp-mod-current .lm-TabBar-tabLabel").inner_text()


def save(page):
    page.keyboard.press("Control+s")
    # The first time JupyterLab asks for a name; the one it offers will do.
    dialog = page.locator(".jp-Dialog")
    dirty = page.locator("#jp-main-dock-panel .lm-TabBar-tab.jp-mod-current.jp-mod-dirty")
    dialog.get_by_role("button", name="Rename").click()
    expect(dialog).to_have_count(0)
    expect(dirty).to_have_count(0)


def first(page, url, took):
    page.goto(url)
    # JupyterLab opens what was open before; only with nothing to open does it show the launcher by itself.
    page.locator(f".jp-Launcher, {NOTEBOOK}").first.wait_for()
    if page.locator(".jp-Launcher").count() == 0:
        page.get_by_role("button", name="New Launcher").first.click()
    page.locator(".jp-Launcher").first.wait_for()
    took("page")
    notebook = new_notebook(page)
    printed = run_cell(page, PRINT)
    expect(printed.locator(".jp-OutputArea-output")).to_contain_text("answer 42")
    took("print")
    plot = run_cell(page, PLOT).locator(".jp-RenderedImage img")
    plot.wait_for()
    assert plot.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100, "the plot is empty"
    took("plot")
    run_cell(page, SET)
    shown = run_cell(page, SHOW)
    expect(shown.locator(".jp-OutputArea-output")).to_contain_text("still value-42000")
    save(page)
    took("variable")
    plot.scroll_into_view_if_needed()
    return notebook


def again(page, url, notebook, took):
    assert notebook, "which notebook? (--notebook)"
    parts = urlsplit(url)
    base = parts.path.split("/lab", 1)[0].rstrip("/")
    page.goto(urlunsplit(parts._replace(path=f"{base}/lab/tree/{quote(notebook)}")))
    # What was open before comes back too, and not always behind what was asked for.
    wait_for_kernel(page)
    page.locator("#jp-main-dock-panel .lm-TabBar-tab", has_text=notebook).click()
    wait_for_kernel(page)
    took("page")
    shown = run_cell(page, SHOW)
    expect(shown.locator(".jp-OutputArea-output")).to_contain_text("still value-42000")
    took("variable")
    return notebook


def main():
    args = arguments()
    steps, start = {}, time.monotonic()

    def took(step):
        steps[step] = round(time.monotonic() - start, 2)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(args.timeout * 1000)
        expect.set_options(timeout=args.timeout * 1000)
        said = []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url.split('?')[0]} {request.failure}"))
        try:
            if args.mode == "first":
                notebook = first(page, args.url, took)
            else:
                notebook = again(page, args.url, args.notebook, took)
        except (Error, AssertionError) as error:
            print(f"after {steps}: {error}", *said[-20:], sep="\n", file=sys.stderr)
            page.screenshot(path=args.screenshot)
            sys.exit(1)
        page.screenshot(path=args.screenshot)
        browser.close()
    print(json.dumps({"notebook": notebook, "seconds": steps}))


main()
