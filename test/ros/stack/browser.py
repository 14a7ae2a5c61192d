# SPDX-License-Identifier: Apache-2.0
"""A real browser without a display, driven by the DevTools protocol of Chromium."""

import base64
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

from websockets.sync.client import connect

DEADLINE = 60.0
NAMES = ("chromium", "chromium-browser", "google-chrome")


def program():
    """Path of Chromium; None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page. A context manager.

    Args:
        url: of the page.
        folder: for the profile of the browser.
        size: width and height of the page [px]; all of it is rendered by the CPU.
    """

    def __init__(self, url, folder, size):
        self._process = subprocess.Popen(
            [program(), "--headless=new", "--no-sandbox", "--use-gl=angle",
             "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
             f"--window-size={size[0]},{size[1]}",
             "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        port = self._port()
        self._socket = connect(f"ws://127.0.0.1:{port[0]}{port[1]}", max_size=2**27)
        self._number = 0
        target = self._call("Target.createTarget", url=url)["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        self.call("DOM.enable")

    def _port(self):
        for line in self._process.stderr:
            if found := re.search(r"ws://127\.0\.0\.1:(\d+)(/\S+)", line):
                return found[1], found[2]
        raise AssertionError("the browser did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._process.kill()
        self._process.communicate()

    def call(self, method, **parameters):
        """A command to the page; its result."""
        return self._call(method, session=self._session, **parameters)

    def _call(self, method, session=None, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(DEADLINE))
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def value(self, expression):
        """Value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, (expression, result)
        return result["result"].get("value")

    def text(self):
        """What the page says."""
        return self.value("document.body ? document.body.innerText : ''") or ""

    def wait(self, text, deadline=DEADLINE):
        """Wait until the page says a text; returns all that it says."""
        end = time.monotonic() + deadline
        while text not in (said := self.text()):
            assert time.monotonic() < end, f"no {text!r} within {deadline} s; it says:\n{said}"
            time.sleep(0.2)
        return said

    def wait_until_gone(self, text, deadline=DEADLINE):
        """Wait until the page does not say a text any more."""
        end = time.monotonic() + deadline
        while text in (said := self.text()):
            assert time.monotonic() < end, f"{text!r} stays for {deadline} s; it says:\n{said}"
            time.sleep(0.2)

    def click(self, label, deadline=DEADLINE):
        """Click the button, or the tab, of a label.

        As a mouse does it: a script's click is not all that a page listens to. Repeated until
        the button has got it, since a page that is just drawn anew moves it from under the mouse.
        """
        self.wait(label)
        name = json.dumps(label)
        # Whatever button of that label gets it: a page may put another one in its place.
        self.value(
            "document.addEventListener('click', event => {"
            " const one = event.target.closest('button, [role=tab]');"
            f" if (one && one.innerText.trim() === {name}) window.clicked = {name};"
            "}, {capture: true}); window.clicked = null;"
        )
        end = time.monotonic() + deadline
        while self.value("window.clicked") != label:
            assert time.monotonic() < end, f"the button {label!r} cannot be clicked"
            place = self.value(
                "(() => { const all = [...document.querySelectorAll('button, [role=tab]')];"
                f" const one = all.find(e => e.innerText.trim() === {name});"
                " if (!one) return null; one.scrollIntoView({block: 'center'});"
                " const box = one.getBoundingClientRect();"
                " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
            )
            if place:
                mouse = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
                for kind in ("mousePressed", "mouseReleased"):
                    self.call("Input.dispatchMouseEvent", type=kind, **mouse)
            # A busy page handles it later.
            patience = time.monotonic() + 10.0
            while self.value("window.clicked") != label and time.monotonic() < patience:
                time.sleep(0.05)
        # viser's page sends a message in 50 ms, and of those in between the newest alone: two
        # clicks of a program would come as one. No hand is that quick.
        time.sleep(0.3)

    def upload(self, *files):
        """Give files to the page's upload, as its dialog would."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        assert node, "the page has no upload"
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def screenshot(self, path):
        """Keep what the page looks like as a PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))
