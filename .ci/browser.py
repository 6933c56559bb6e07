"""Open pages in headless Chromium and complain of what a reader would: `python .ci/browser.py PAGE.html ...`

Each page is shown 400 and 1400 pixels wide, in light colors. Found are errors in the console, pictures that do not
load, sideways scrolling, and addresses outside the page. Pages that are broken on purpose are looked at first.
"""

import contextlib
import html
import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTHS = (400, 1400)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
EARLY = """<script>
window.errors = [];
const told = (e) => errors.push(e.message || `cannot load ${e.target.outerHTML.slice(0, 80)}`);
window.addEventListener("error", told, true);
window.addEventListener("unhandledrejection", (e) => errors.push(String(e.reason)));
console.error = (...words) => errors.push(words.join(" "));
</script>"""
PROBE = """<!doctype html><meta charset="utf-8"><body><script>
const pages = %s;
const look = (frame, width) => {
  const page = frame.contentWindow, found = [...page.errors];
  for (const image of page.document.images)
    if (!image.complete || !image.naturalWidth) found.push(`picture not loaded: ${image.alt}`);
  if (page.document.documentElement.scrollWidth > width)
    found.push(`scrolls sideways: ${page.document.documentElement.scrollWidth} pixels`);
  return found;
};
const shown = ([name, address, width]) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.style = `border: 0; height: 900px; width: ${width}px`;
  frame.onload = () => setTimeout(() => {
    done([name, width, look(frame, width)]);
    frame.remove();
  }, 300);
  frame.src = address;
  document.body.append(frame);
});
(async () => {
  const found = [];
  for (const page of pages) found.push(await shown(page));
  document.body.textContent = `FOUND${JSON.stringify(found)}END`;
})();
</script>"""


def problems(pages: dict[str, str], root: Path | None = None) -> list[str]:
    """What is wrong with pages, a line each.

    pages: their text by name; below `root`, by their path there, so that what lies beside them is found.
    """
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"error: needs one of {', '.join(BROWSERS)}")
    addresses = {f"/{name}" if root else f"/{number}.html": name for number, name in enumerate(pages)}
    served = {address: with_hook(pages[name]) for address, name in addresses.items()}
    shown = [(name, address, width) for address, name in addresses.items() for width in WIDTHS]
    served["/"] = PROBE % json.dumps(shown).replace("</", "<\\/")
    with tempfile.TemporaryDirectory() as folder, serving(served, root or Path(folder)) as url:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
        command += [f"--virtual-time-budget={10000 + 1000 * len(shown)}", "--window-size=1500,1000", "--dump-dom", url]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    answer = re.search(r"FOUND(.*)END", dom, flags=re.DOTALL)
    if answer is None:
        sys.exit("error: the browser gave no answer")
    looked_at = json.loads(html.unescape(answer.group(1)))
    assert len(looked_at) == len(shown)
    found = [f"{name} at {width} px: {line}" for name, width, lines in looked_at for line in lines]
    return found + [f"{name}: fetches {link}" for name, text in pages.items() for link in fetched(text)]


@contextlib.contextmanager
def serving(texts: dict[str, str], root: Path) -> Iterator[str]:
    """The address of a server on this machine that has these pages by path, and the files of a folder."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(root))

        def do_GET(self) -> None:
            text = texts.get(self.path.partition("?")[0])
            if text is None:
                super().do_GET()
                return
            content = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A frame that is taken away drops what it was loading."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def with_hook(text: str) -> str:
    """The page with our listener before anything else."""
    return re.sub(r"(<head[^>]*>)", lambda head: head.group(1) + EARLY, text, count=1)


def fetched(text: str) -> list[str]:
    """Addresses outside the page that a browser would load by itself."""
    loaded = re.findall(r"""<(?:img|script|link|iframe)\b[^>]*?\b(?:src|href)=["']?([^"'\s>]+)""", text)
    loaded += re.findall(r"""(?:@import|url\()\s*["']?(https?:[^"')\s]+)""", text)
    return [link[:80] for link in loaded if re.match(r"(https?:)?//", link)]


def check_the_check() -> None:
    """A page with every fault must be refused for each of them, and a good one not at all."""
    good = "<!doctype html><html><head><title>good</title></head><body><p>text</p></body></html>"
    body = "<img alt=gone src='data:image/png;base64,AAAA'><div style='width: 900px'>wide</div>"
    bad = good.replace(
        "<p>text</p>", body + "<script>nonsense()</script><link rel=stylesheet href='https://example.invalid/a.css'>"
    )
    found = problems({"good": good, "bad": bad})
    assert not [line for line in found if line.startswith("good")], found
    for expected in ("gone", "400 px: scrolls sideways", "nonsense", "fetches https://example.invalid"):
        assert any(expected in line for line in found), (expected, found)
    assert not any("1400 px: scrolls" in line for line in found), found


if __name__ == "__main__":
    check_the_check()
    texts = {path: Path(path).read_text(encoding="utf-8") for path in sys.argv[1:]}
    if lines := problems(texts):
        sys.exit("\n".join(lines))
    print(f"{len(texts)} pages without problems")
