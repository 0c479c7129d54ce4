// @ts-check
/** The page at `/`: a picture to click on. See docs/page.md. */

import { listen } from "./input.js";
import { byId, render } from "./panel.js";
import { openPicture, start, update } from "./state.js";

const PHOTO = "page/photo.jpg";

start(render);
listen();
new ResizeObserver(render).observe(byId("canvas"));
openBundledPhoto();

/** So that there is something to click on at once. */
async function openBundledPhoto() {
  const response = await fetch(PHOTO).catch(() => null);
  if (response?.ok) return openPicture(await response.blob(), "coffee.jpg", true);
  update({ busy: false, status: "", error: { text: "The photo could not be loaded. Open a picture.", retry: false } });
}
