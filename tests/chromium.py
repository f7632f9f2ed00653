"""A page in headless Chromium, driven over its debugging pipe: no network, no port, and nothing to install besides the browser."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 120


def browser() -> str:
    """The path of an installed Chromium; the test is skipped where there is none, which is said."""
    found = next((p for n in NAMES if (p := shutil.which(n))), None)
    if found is None:
        pytest.skip(f"no Chromium is installed ({', '.join(NAMES)}): apt-get install chromium")
    return found


class Page:
    """One page of one browser. Messages end with a zero byte, and go by the file descriptors 3 and 4 of the browser."""

    def __init__(self, path: str, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        self._folder = tempfile.mkdtemp(prefix="ckptkit-chromium-")
        (to_them, self._out), (self._in, from_them) = os.pipe(), os.pipe()
        for fd in (to_them, from_them):
            os.set_inheritable(fd, True)

        def plumb() -> None:  # in the child: first out of the way of 3 and 4
            a, b = os.dup(to_them), os.dup(from_them)
            a, b = (os.dup(fd) if fd in (3, 4) else fd for fd in (a, b))
            os.dup2(a, 3)
            os.dup2(b, 4)

        words = ["--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--hide-scrollbars", "--no-sandbox"]
        words += [
            f"--user-data-dir={self._folder}",
            f"--window-size={width},{height}",
            "--disable-dev-shm-usage",
            "--force-color-profile=srgb",
        ]
        self._process = subprocess.Popen(
            [path, *words, "about:blank"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=plumb,
        )  # fmt: skip
        os.close(to_them)
        os.close(from_them)
        self._buffer, self._number, self._session = b"", 0, ""
        self.said: list[str] = []  # errors and refusals that the browser tells of
        self.asked: list[str] = []  # addresses that the page has asked for
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._session = ""
            self._send("Browser.close")
            self._process.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, method: str, **params: Any) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        data = json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        return self._number

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            got = os.read(self._in, 1 << 20)
            if not got:
                raise RuntimeError("the browser has gone")
            self._buffer += got
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        kind, params = message.get("method", ""), message.get("params", {})
        if kind == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif kind == "Log.entryAdded":
            self.said.append(params["entry"]["text"])
        elif kind == "Runtime.exceptionThrown":
            self.said.append(json.dumps(params["exceptionDetails"])[:2000])
        elif kind == "Runtime.consoleAPICalled":
            self.said.append(json.dumps(params["args"])[:2000])
        elif kind == "Page.javascriptDialogOpening":
            self.said.append(f"a dialog: {params['message']}")
        return message

    def call(self, method: str, **params: Any) -> Any:
        """The answer to one command of the protocol."""
        number, end = self._send(method, **params), time.monotonic() + SECONDS
        while time.monotonic() < end:
            message = self._next()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
        raise TimeoutError(method)

    def open(self, path: Path | str) -> None:
        """Load a file, to its end."""
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if self._next().get("method") == "Page.loadEventFired":
                return
        raise TimeoutError(str(path))

    def run(self, script: str) -> Any:
        """The value of an expression, in the page."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(json.dumps(done["exceptionDetails"])[:2000])
        return done["result"].get("value")

    def key(self, key: str, code: int = 0, text: str = "") -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    def picture(self, path: Path | str, *, whole: bool = False) -> None:
        """A screenshot as PNG: of the window, or of the whole page."""
        more = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            more = {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **more)["data"]))

    def print(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])
