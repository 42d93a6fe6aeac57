"""A headless Chromium, driven over its DevTools protocol: it shows pages at any width and theme, and reports
their errors."""

import asyncio
import base64
import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)  # fmt: skip
_WAIT = 300.0  # seconds for the browser to answer


@dataclass
class Page:
    """An open page. `ask` runs JavaScript in it; `complaints` are its errors, its warnings and any requests
    to the network."""

    socket: aiohttp.ClientWebSocketResponse
    loop: asyncio.AbstractEventLoop
    complaints: list[str] = field(default_factory=list)
    _number: int = 0
    _loaded: bool = False

    def call(self, method: str, **parameters: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(self._call(method, parameters), _WAIT))

    async def _call(self, method: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        await self.socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            answer = await self.socket.receive_json()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._hear(answer.get("method"), answer.get("params", {}))

    def _hear(self, event: str | None, told: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(told["args"]))
        elif event == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent" and not told["request"]["url"].startswith(("file:", "data:")):
            self.complaints.append(f"asked the network for {told['request']['url']}")
        elif event == "Page.loadEventFired":
            self._loaded = True

    def open(self, path: Path, *, width: int, theme: str = "light", medium: str = "screen") -> None:
        """Show a file at a width in CSS pixels, in a theme."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = [{"name": "prefers-color-scheme", "value": theme}]
        self.call("Emulation.setEmulatedMedia", media=medium, features=scheme)
        self._loaded = False
        self.call("Page.navigate", url=path.absolute().as_uri())
        end = time.monotonic() + _WAIT
        while not self._loaded and time.monotonic() < end:
            self.ask("1")
        assert self._loaded, f"{path} was not loaded"

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A browser with a new, empty profile, which is deleted when the block ends."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        loop = asyncio.new_event_loop()
        session = None
        try:
            session = loop.run_until_complete(_session())
            socket = loop.run_until_complete(_connect(session, Path(profile) / "DevToolsActivePort"))
            yield Page(socket, loop)
        finally:
            if session is not None:
                loop.run_until_complete(session.close())
            loop.close()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def _connect(session: aiohttp.ClientSession, port_file: Path) -> aiohttp.ClientWebSocketResponse:
    end = time.monotonic() + _WAIT
    while not (port_file.exists() and port_file.read_text().count("\n")):
        assert time.monotonic() < end, "Chromium did not start"
        await asyncio.sleep(0.05)
    port = port_file.read_text().splitlines()[0]
    while True:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            targets = await answer.json(content_type=None)
        if pages := [target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"]:
            break
        assert time.monotonic() < end, "Chromium has no page"
        await asyncio.sleep(0.05)
    return await session.ws_connect(pages[0], max_msg_size=1 << 28)
