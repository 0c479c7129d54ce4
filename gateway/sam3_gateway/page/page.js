// @ts-check
/** The page at `/`, for clicking on pictures. See docs/page.md. */

import { openPicture } from "./asking.js";
import { byId } from "./elements.js";
import { listen } from "./input.js";
import { render } from "./panel.js";
import { areConceptsServed } from "./server.js";
import { start, update } from "./state.js";

const PHOTO = "page/photo.jpg";

start(render);
listen();
new ResizeObserver(render).observe(byId("canvas"));
openBundledPhoto();
areConceptsServed().then((conceptsServed) => update({ conceptsServed }));

/** Opens the sample photo, so that users can click at once. */
async function openBundledPhoto() {
  const response = await fetch(PHOTO).catch(() => null);
  if (response?.ok) return openPicture(await response.blob(), "coffee.jpg", true);
  update({ busy: false, status: "", error: { text: "The sample photo could not be loaded. Open a picture.", retry: false } });
}
