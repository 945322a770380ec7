"""Uses JupyterLab like a user, in headless Chromium, and fails unless the expected output appears on the page.

    jupyter.py first URL --screenshot FILE                    a new notebook: prints, plots, sets a variable
    jupyter.py again URL --screenshot FILE --notebook NAME    the same notebook: the variable is still there
    jupyter.py count URL --screenshot FILE --begun FILE       a new notebook: counts to 60, one number per second; creates
                                                              the file `--begun` when it has started

URL is the one that JupyterLab prints, with the token. On success it prints one line of JSON: the notebook's name and the
seconds of each step. On failure the screenshot shows the page.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path
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
NUMBERS = 60
COUNT = f"import time\nfor n in range(1, {NUMBERS + 1}):\n    print('number', n, flush=True); time.sleep(1)"
# Words in a notification about the connection.
ABOUT_LOSS = re.compile("connect|server|fetch|fail|error|lost", re.IGNORECASE)
# The kernel states that JupyterLab shows if it cannot reach the kernel.
LOST = ["Connecting", "Reconnecting", "Disconnected", "Unknown", "Dead"]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["first", "again", "count"])
    parser.add_argument("url")
    parser.add_argument("--screenshot", required=True)
    parser.add_argument("--notebook")
    parser.add_argument("--begun", type=Path)
    parser.add_argument("--timeout", type=float, default=60, help="seconds for each step")
    return parser.parse_args()


# Background tabs are also on the page, but hidden.
NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden)"


def run_cell(page, code):
    """Puts code into the last cell, which must be empty, and runs it. Returns the cell."""
    cells = page.locator(f"{NOTEBOOK} .jp-CodeCell")
    # Cells are rendered one after the other. The last one is empty.
    expect(cells.last.locator(".cm-content")).to_have_text("")
    count = cells.count()
    cell = cells.nth(count - 1)
    editor = cell.locator(".cm-content")
    editor.click()
    expect(editor).to_be_focused()
    page.keyboard.insert_text(code)
    expect(editor).to_contain_text(code.splitlines()[0])
    page.keyboard.press("Shift+Enter")
    # Running the last cell creates a new one below it.
    expect(cells).to_have_count(count + 1)
    return cell


def wait_for_kernel(page):
    """Waits for the kernel. Before that, JupyterLab renders the notebook again and loses typed text."""
    page.locator(f"{NOTEBOOK} .cm-content").first.wait_for()
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")


def new_notebook(page):
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    wait_for_kernel(page)
    return page.locator("#jp-main-dock-panel .lm-TabBar-tab.jp-mod-current .lm-TabBar-tabLabel").inner_text()


def save(page):
    page.keyboard.press("Control+s")
    # The first time, JupyterLab asks for a name. The default is fine.
    dialog = page.locator(".jp-Dialog")
    dirty = page.locator("#jp-main-dock-panel .lm-TabBar-tab.jp-mod-current.jp-mod-dirty")
    dialog.get_by_role("button", name="Rename").click()
    expect(dialog).to_have_count(0)
    expect(dirty).to_have_count(0)


def open_launcher(page, url):
    page.goto(url)
    # JupyterLab reopens earlier notebooks. It shows the launcher by itself only if there are none.
    page.locator(f".jp-Launcher, {NOTEBOOK}").first.wait_for()
    if page.locator(".jp-Launcher").count() == 0:
        page.get_by_role("button", name="New Launcher").first.click()
    page.locator(".jp-Launcher").first.wait_for()


def first(page, url, took):
    open_launcher(page, url)
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
    assert notebook, "--notebook is missing"
    parts = urlsplit(url)
    base = parts.path.split("/lab", 1)[0].rstrip("/")
    page.goto(urlunsplit(parts._replace(path=f"{base}/lab/tree/{quote(notebook)}")))
    # JupyterLab also reopens earlier notebooks, sometimes in front of the requested one.
    wait_for_kernel(page)
    page.locator("#jp-main-dock-panel .lm-TabBar-tab", has_text=notebook).click()
    wait_for_kernel(page)
    took("page")
    shown = run_cell(page, SHOW)
    expect(shown.locator(".jp-OutputArea-output")).to_contain_text("still value-42000")
    took("variable")
    return notebook


def count(page, url, took, begun):
    """Fails if a number is missing, duplicated or out of order, or if the page shows a connection problem."""
    assert begun, "--begun is missing"
    open_launcher(page, url)
    notebook = new_notebook(page)
    took("page")
    loads = []
    page.on("framenavigated", lambda frame: loads.append(frame.url) if frame == page.main_frame else None)
    page.on("load", lambda _: loads.append("load"))
    output = run_cell(page, COUNT).locator(".jp-OutputArea-output")
    expect(output).to_contain_text("number 3")
    begun.touch()
    deadline = time.monotonic() + NUMBERS + 60
    seen = set()
    while f"number {NUMBERS}\n" not in numbers(output) and time.monotonic() < deadline:
        seen.update(signs_of_loss(page))
        page.wait_for_timeout(200)
    took("count")
    wanted = "".join(f"number {n}\n" for n in range(1, NUMBERS + 1))
    assert numbers(output) == wanted, f"wrong numbers: {numbers(output)!r}"
    assert not seen, f"the user saw: {seen}"
    # JupyterLab may change the URL by itself, without a reload.
    assert "load" not in loads, f"the page was reloaded: {loads}"
    save(page)
    return notebook


def numbers(output):
    return "".join(text if text.endswith("\n") else text + "\n" for text in output.all_inner_texts())


def signs_of_loss(page):
    """Signs of a connection problem on the page: dialogs, notifications, the kernel's state."""
    said = page.locator(".jp-Dialog").all_inner_texts()
    # JupyterLab also shows its news as notifications.
    said += [text for text in page.locator(".Toastify__toast").all_inner_texts() if ABOUT_LOSS.search(text)]
    status = page.locator("#jp-main-statusbar").inner_text()
    return said + [state for state in LOST if f"| {state}" in status]


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
            elif args.mode == "count":
                notebook = count(page, args.url, took, args.begun)
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
