"""The user's own pictures, and error messages."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable

import golden
import numpy as np
import pytest
from browsing import API_KEY, Visitor, fields, mask_of
from pictures import HEIC, encoded, fresh_image
from PIL import Image
from playwright.sync_api import expect

CUP, TABLE = (290, 150), (500, 60)


def choose(visitor: Visitor, name: str, data: bytes) -> None:
    """Picks a file in the dialogue of the button."""
    with visitor.page.expect_file_chooser() as chooser:
        visitor.page.get_by_role("button", name="Open a picture").click()
    chooser.value.set_files({"name": name, "mimeType": "", "buffer": data})


def wait_for_picture(visitor: Visitor, name: str) -> None:
    visitor.page.wait_for_selector(f'#canvas[aria-label^="{name}"]')
    visitor.settle()


def test_the_users_own_picture(visitor: Visitor) -> None:
    visitor.click(*CUP)
    choose(visitor, "rocket.png", (golden.FOLDER / "rocket.png").read_bytes())
    wait_for_picture(visitor, "rocket.png")
    assert visitor.picture_size() == Image.open(golden.FOLDER / "rocket.png").size
    assert visitor.page.locator("#candidates button").count() == 0
    assert mask_of(visitor.answer(lambda: visitor.click(320, 200))).any()
    assert fields(visitor.requests[-1])["labels"] == "[1]"
    with visitor.page.expect_download() as caught:
        visitor.page.click("#download")
    assert caught.value.suggested_filename == "rocket_mask.png"


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(visitor: Visitor, event: str) -> None:
    visitor.page.evaluate(
        """([event, data]) => {
            const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "noise.png", {type: "image/png"}));
            const options = {bubbles: true, cancelable: true};
            const target = document.getElementById("canvas");
            const events = event === "paste"
                ? [new ClipboardEvent("paste", {...options, clipboardData: transfer})]
                : ["dragover", "drop"].map((type) => new DragEvent(type, {...options, dataTransfer: transfer}));
            for (const one of events) target.dispatchEvent(one);
        }""",
        [event, base64.b64encode(fresh_image(120, 80)).decode()],
    )
    wait_for_picture(visitor, "noise.png")
    assert visitor.picture_size() == (120, 80)
    assert visitor.page.locator("body.dropping").count() == 0
    visitor.answer(lambda: visitor.click(60, 40))


@pytest.mark.parametrize(("kind", "byte_order"), [("JPEG", "<"), ("JPEG", ">"), ("PNG", "<"), ("WEBP", "<")])
def test_a_picture_is_shown_as_it_is_stored(visitor: Visitor, kind: str, byte_order: str) -> None:
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[:, :60] = 255, 0, 0
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x0112] = 6  # to be turned by 90 degrees
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=95, exif=exif)
    choose(visitor, "turned", buffer.getvalue())
    wait_for_picture(visitor, "turned,")
    assert visitor.picture_size() == (120, 80)
    assert np.abs(visitor.seen().astype(int) - pixels).mean() < 8
    visitor.answer(lambda: visitor.click(20, 70))
    assert json.loads(fields(visitor.requests[-1])["points"]) == [[20, 70]]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("broken.png", b"no picture"),
        ("field.tif", encoded(Image.new("RGB", (60, 40)), "TIFF")),
        ("phone.heic", HEIC.read_bytes()),
    ],
)
def test_what_the_browser_cannot_show_is_named_and_the_next_picture_works(
    visitor: Visitor, name: str, data: bytes
) -> None:
    choose(visitor, name, data)
    alert = visitor.page.get_by_role("alert")
    alert.wait_for()
    assert f"cannot show “{name}”. The page takes PNG, JPEG and WebP" in alert.inner_text()
    assert visitor.page.get_by_role("button", name="Try again").count() == 0
    assert visitor.page.is_visible("#credit")
    choose(visitor, "whole.png", fresh_image())
    wait_for_picture(visitor, "whole.png")
    assert not alert.is_visible()
    assert not visitor.page.is_visible("#credit")  # the credit is for the sample photo
    visitor.answer(lambda: visitor.click(60, 40))


def test_the_servers_error_message_is_shown(visitor: Visitor, gateway: str) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(fresh_image(64, 64))).save(buffer, "ICO")  # browsers show this format
    with visitor.page.expect_response(f"{gateway}/v1/images") as caught:
        choose(visitor, "icon.ico", buffer.getvalue())
    assert caught.value.status == 415
    detail = caught.value.json()["detail"]
    wait_for_picture(visitor, "icon.ico")
    assert visitor.text("#error-text") == detail
    assert not visitor.page.is_visible("#retry")  # it would be refused again
    assert "415" in visitor.complaints.pop()
    choose(visitor, "whole.png", fresh_image())
    wait_for_picture(visitor, "whole.png")
    assert not visitor.page.is_visible("#error")
    visitor.answer(lambda: visitor.click(60, 40))


def test_an_unreachable_server_is_reported_and_retried(visitor: Visitor) -> None:
    before = visitor.seen()
    visitor.click(*CUP)
    visitor.page.context.set_offline(True)
    visitor.click(*TABLE, button="right")
    assert "cannot be reached" in visitor.text("#error")
    assert visitor.page.get_attribute("#download", "aria-disabled") == "true"
    np.testing.assert_array_equal(visitor.seen()[30:100, 200:400], before[30:100, 200:400])  # the old mask is gone
    visitor.page.context.set_offline(False)
    answer = visitor.answer(lambda: visitor.page.get_by_role("button", name="Try again").click())
    assert fields(visitor.requests[-1])["labels"] == "[1,0]"
    assert mask_of(answer)[CUP[1], CUP[0]]
    assert not visitor.page.is_visible("#error")
    assert "ERR_INTERNET_DISCONNECTED" in visitor.complaints.pop()


def test_the_page_asks_for_the_key(visit: Callable[..., Visitor], locked_gateway: str) -> None:
    visitor = visit(locked_gateway)
    field = visitor.page.get_by_label("API key")
    assert "the API key in the header X-API-Key is missing" in visitor.text("#error")
    field.fill("wrong")
    field.press("Enter")
    expect(visitor.page.locator("#error")).to_contain_text("is wrong")
    field.fill(API_KEY)
    field.press("Enter")
    field.wait_for(state="hidden")
    assert not visitor.page.is_visible("#error")
    visitor.answer(lambda: visitor.click(*CUP))
    visitor.page.reload()
    visitor.settle()
    visitor.answer(lambda: visitor.click(*CUP))
    assert len(visitor.complaints) == 2
    assert all("401" in complaint for complaint in visitor.complaints)
    visitor.complaints.clear()
