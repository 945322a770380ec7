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


def run_cell(page, code):
    """Puts code into the last cell, which must be empty, and runs it. Gives the cell."""
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    count = cells.count()
    cell = cells.nth(count - 1)
    cell.locator(".cm-content").click()
    page.keyboard.insert_text(code)
    page.keyboard.press("Shift+Enter")
    # Running the last cell makes a new one below it.
    expect(cells).to_have_count(count + 1)
    return cell


def new_notebook(page):
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.wait_for()
    page.wait_for_url("**/lab/tree/*.ipynb*")
    return urlsplit(page.url).path.rsplit("/", 1)[1]


def first(page, url, took):
    page.goto(url)
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
    page.keyboard.press("Control+s")
    page.wait_for_function("!document.querySelector('.jp-mod-current.jp-mod-dirty')")
    took("variable")
    plot.scroll_into_view_if_needed()
    return notebook


def again(page, url, notebook, took):
    assert notebook, "which notebook? (--notebook)"
    parts = urlsplit(url)
    base = parts.path.split("/lab", 1)[0].rstrip("/")
    page.goto(urlunsplit(parts._replace(path=f"{base}/lab/tree/{quote(notebook)}")))
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.wait_for()
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
