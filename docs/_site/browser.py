"""A headless Chromium that opens a page, is asked about it, and draws it. It is driven over a pipe, so that nothing has to be installed
beside the browser. Source: the DevTools protocol, chromedevtools.github.io/devtools-protocol.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe")
FREE = 10  # Chromium reads its orders from descriptor 3 and answers on 4: ours lie above
TALLEST = 16_000  # pixels of one picture; what is beyond is cut


class Browser:
    """One window of ``width`` x ``height`` pixels. RuntimeError where an order is refused or Chromium ends."""

    def __init__(self, width: int, height: int = 900) -> None:
        if CHROMIUM is None:
            raise RuntimeError("Chromium is not here")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        orders, self._orders = _pipe()
        self._answers, answers = _pipe()
        words = [CHROMIUM, *FLAGS, f"--user-data-dir={self._profile.name}"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{orders} 4>&{answers}', "bash", *words],
            pass_fds=(orders, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(orders)
        os.close(answers)
        self._left = b""
        self._count = 0
        self._session: str | None = None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Page.enable")
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._width = width

    def open(self, address: str) -> None:
        """Go to ``address`` and wait until it is loaded."""
        self._ask("Page.navigate", until="Page.loadEventFired", url=address)

    def say(self, script: str) -> Any:
        """The value of a line of JavaScript on the page, as JSON has it."""
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def picture(self, path: Path) -> None:
        """The page from its top to its end, as a PNG."""
        self.say("window.scrollTo(0, 0); new Promise((done) => setTimeout(done, 300))")  # a header that hides as one scrolls comes back
        height = min(TALLEST, self.say("Math.ceil(document.documentElement.scrollHeight)"))
        clip = {"x": 0, "y": 0, "width": self._width, "height": height, "scale": 1}
        drawn = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(drawn["data"]))

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._orders)
        os.close(self._answers)
        self._profile.cleanup()

    def _ask(self, method: str, until: str = "", **parameters: Any) -> dict[str, Any]:
        """Send an order, return its answer; ``until``: wait for this event too."""
        self._count += 1
        order: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            order["sessionId"] = self._session
        os.write(self._orders, json.dumps(order).encode() + b"\0")
        answer: dict[str, Any] | None = None
        seen = not until
        while answer is None or not seen:
            told = self._hear()
            seen = seen or told.get("method") == until
            if told.get("id") == self._count:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']['message']}")
                answer = told["result"]
        return answer

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            came = os.read(self._answers, 1 << 16)
            if not came:
                raise RuntimeError("Chromium ended")
            self._left += came
        one, _, self._left = self._left.partition(b"\0")
        heard: dict[str, Any] = json.loads(one)
        return heard


def _pipe() -> tuple[int, int]:
    """A pipe, (read, write), whose descriptors are ``FREE`` or above."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD, FREE) for end in low)
    for end in low:
        os.close(end)
    return high[0], high[1]
