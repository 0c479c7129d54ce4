// @ts-check
/** The page at `/`, for clicking on pictures. See docs/page.md. */

import { listen } from "./input.js";
import { byId, render } from "./panel.js";
import { openPicture, start, update } from "./state.js";

const PHOTO = "page/photo.jpg";

start(render);
listen();
new ResizeObserver(render).observe(byId("canvas"));
openBundledPhoto();

/** Opens the sample photo, so that users can click at once. */
async function openBundledPhoto() {
  const response = await fetch(PHOTO).catch(() => null);
  if (response?.ok) return openPicture(await response.blob(), "coffee.jpg", true);
  update({ busy: false, status: "", error: { text: "The sample photo could not be loaded. Open a picture.", retry: false } });
}
