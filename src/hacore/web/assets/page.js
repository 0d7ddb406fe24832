// What the page does by itself: ages count on, and what nobody vouches for any more turns grey, also when the connection
// of this page is the one that was lost.
"use strict";
(() => {
  const stale = Number(document.body.dataset.stale) * 1000;
  const words = new Map(); // name of a node -> when its last word came, by the server's clock (seconds)
  let offset = 0; // the server's clock minus this one (milliseconds)
  let heard = Date.now();
  let following = false;
  let asked = 0; // when the node was last asked whether it still knows this session

  const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  function duration(seconds) {
    const left = Math.max(0, Math.floor(seconds));
    for (let place = 0; place < units.length; place++) {
      const [size, unit] = units[place];
      if (left >= size) {
        const rest = size > 1 ? Math.floor((left % size) / units[place + 1][0]) : 0;
        return `${Math.floor(left / size)} ${unit}` + (rest ? ` ${rest} ${units[place + 1][1]}` : "");
      }
    }
    return "0 s";
  }

  function take(pulse) {
    const now = pulse.querySelector("[data-now]");
    if (!now) return;
    heard = Date.now();
    following = true;
    offset = Number(now.dataset.now) * 1000 - heard;
    words.clear();
    for (const one of pulse.querySelectorAll("[data-of]")) words.set(one.dataset.of, Number(one.dataset.at));
  }

  function say(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  // What has the keyboard keeps it when its region is sent again, or when it was disabled for the time of a request.
  let focused = "";
  function keepFocus() {
    if (document.activeElement !== document.body || !focused || !document.hasFocus()) return;
    const element = document.getElementById(focused);
    if (element && !element.disabled) element.focus({ preventScroll: true });
  }

  function tick() {
    keepFocus();
    if (!following) return;
    const now = (Date.now() + offset) / 1000;
    const lost = Date.now() - heard > stale;
    document.body.classList.toggle("lost", lost);
    const bar = document.getElementById("lost");
    if (lost && bar.hidden) {
      document.getElementById("lost-since").textContent = new Date(heard).toLocaleTimeString("en-GB");
    }
    bar.hidden = !lost;
    if (lost && Date.now() - asked > stale) ask();
    for (const one of document.querySelectorAll("time[data-at]")) say(one, duration(now - Number(one.dataset.at)));
    for (const one of document.querySelectorAll("time[data-word]")) {
      const at = words.get(one.dataset.word);
      say(one, at ? duration(now - at) : "never");
    }
    for (const one of document.querySelectorAll("[data-node]")) {
      const at = words.get(one.dataset.node);
      one.classList.toggle("stale", lost || !at || (now - at) * 1000 > stale);
    }
  }

  // A node that was started anew knows no session: that is not the same as no connection.
  async function ask() {
    asked = Date.now();
    let known = true;
    try {
      known = (await fetch(location.href, { redirect: "manual", cache: "no-store", headers: { Accept: "*/*" }, signal: AbortSignal.timeout(2500) })).status !== 401;
    } catch {
      // nobody answers
    }
    document.getElementById("lost-connection").hidden = !known;
    document.getElementById("lost-session").hidden = known;
  }

  document.addEventListener("htmx:sseMessage", (event) => {
    if (event.target.id === "pulse") take(event.target);
    else tick();
  });
  document.addEventListener("htmx:afterRequest", () => setTimeout(keepFocus));
  document.addEventListener("htmx:afterSettle", keepFocus);
  document.addEventListener("focusin", (event) => { focused = event.target.id; });
  document.addEventListener("pointerdown", () => { focused = ""; });
  document.addEventListener("DOMContentLoaded", () => {
    const pulse = document.getElementById("pulse");
    if (pulse) take(pulse);
    tick();
  });
  setInterval(tick, 500);
})();
