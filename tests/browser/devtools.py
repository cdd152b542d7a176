"""Control a headless Chromium over its DevTools websocket: tabs, keys, JavaScript and screenshots."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection

WAIT_S = 60.0
FLAGS = """
    --headless=new --no-sandbox --disable-gpu --no-first-run --disable-dev-shm-usage --remote-debugging-port=0
    --use-fake-ui-for-media-stream --use-fake-device-for-media-stream
    --autoplay-policy=no-user-gesture-required
    --disable-background-networking --disable-component-update --disable-sync
"""


class Browser:
    """A running Chromium whose microphone plays a WAV file."""

    def __init__(self, executable: str, folder: Path, wav: Path) -> None:
        self._process = subprocess.Popen(
            [
                executable,
                *FLAGS.split(),
                f"--use-file-for-fake-audio-capture={wav}%noloop",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith("DevTools listening on "):
                self.url = line.removeprefix("DevTools listening on ").strip()
                return
        raise AssertionError("Chromium exited before DevTools was ready")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)
        assert self._process.stderr is not None
        self._process.stderr.close()


class Page:
    """One tab with its own storage."""

    def __init__(self, socket: ClientConnection, session: str, context: str) -> None:
        self._socket = socket
        self._session = session
        self.context = context
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())
        self.problems: list[str] = []
        """The page's exceptions, console errors and policy violations."""
        self.downloaded = asyncio.Event()

    @classmethod
    async def open(cls, socket: ClientConnection) -> Page:
        page = cls(socket, "", "")
        page.context = (await page.call("Target.createBrowserContext"))["browserContextId"]
        target = await page.call("Target.createTarget", url="about:blank", browserContextId=page.context)
        attached = await page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        await page.resize(1280, 800)
        return page

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        self._replies[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps(message))
        async with asyncio.timeout(WAIT_S):
            return await self._replies[number]

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                reply = self._replies.pop(message["id"])
                if "error" in message:
                    reply.set_exception(AssertionError(message["error"]["message"]))
                else:
                    reply.set_result(message["result"])
            elif message["method"] == "Runtime.exceptionThrown":
                self.problems.append(message["params"]["exceptionDetails"]["exception"]["description"])
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.problems.append(message["params"]["entry"]["text"])
            elif (
                message["method"] == "Browser.downloadProgress" and message["params"]["state"] == "completed"
            ):
                self.downloaded.set()

    async def goto(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def evaluate(self, expression: str) -> Any:
        result = await self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        limit_ms = (WAIT_S - 5) * 1000
        result = await self.evaluate(
            f"""new Promise((resolve) => {{
                const end = performance.now() + {limit_ms};
                const check = () => {{
                    if ({condition}) resolve("yes");
                    else if (performance.now() > end) resolve(document.body.innerText);
                    else setTimeout(check, 20);
                }};
                check();
            }})"""
        )
        assert result == "yes", (
            f"never true: {condition}\nthe page shows:\n{result}\nproblems: {self.problems}"
        )

    async def text(self, selector: str) -> str:
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))

    async def press(self, key: str) -> None:
        text = {"Enter": "\r"}.get(key, key)
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, text=text if kind == "keyDown" else ""
            )

    async def resize(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def screenshot(self, path: Path) -> None:
        picture = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))  # noqa: ASYNC240 - nothing else waits

    async def close(self) -> None:
        await self.call("Target.disposeBrowserContext", browserContextId=self.context)
        self._reader.cancel()


OpenPage = Callable[[ClientConnection], Awaitable[Page]]
