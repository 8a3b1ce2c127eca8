"use strict";
// Keys for reviewers: 1 to 3 mark the current caption, N writes its note, Backspace goes back, Enter goes on or sends.
(() => {
  let at = 0; // the current caption
  let shown = null; // the task that it belongs to
  let sent = null; // the task whose marks are on their way

  const visible = (element) => element.offsetParent !== null;
  const slots = () => Array.from(document.querySelectorAll(".slot")).filter((slot) => visible(slot) && slot.querySelector(".marks"));
  const task = () => document.querySelector("[data-task]")?.dataset.task ?? null;

  const mark = () => {
    const all = slots();
    if (task() !== shown) { shown = task(); at = 0; sent = null; window.scrollTo({ top: 0 }); }
    all.forEach((slot, index) => slot.classList.toggle("current", index === at));
    if (all.length) document.getElementById("send")?.classList.toggle("ready", at === all.length - 1);
  };

  document.addEventListener("keydown", (event) => {
    const all = slots();
    if (!all.length || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.(".note")) {
      // Enter and Escape leave the note; every other key writes it.
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.target.blur();
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if (event.target.matches?.("input:not([type=checkbox]), textarea, select") || sent !== null) return;
    const boxes = all[at].querySelectorAll(".marks input[type=checkbox]");
    if (/^[1-9]$/.test(event.key)) {
      boxes[Number(event.key) - 1]?.click();
    } else if (event.key === "n" || event.key === "N") {
      all[at].querySelector(".note textarea, .note input")?.focus();
    } else if (event.key === "Backspace") {
      at = Math.max(0, at - 1);
    } else if (event.key === "Enter" && at < all.length - 1) {
      at += 1;
    } else if (event.key === "Enter") {
      sent = task();
      document.getElementById("send").click();
    } else {
      return;
    }
    all[at].scrollIntoView({ block: "nearest" });
    event.preventDefault();
    // Gradio toggles the box that has the focus on Enter.
    event.stopPropagation();
    mark();
  }, true);

  // Where the mouse or the Tab key goes is the current caption, too.
  document.addEventListener("focusin", (event) => {
    const index = slots().findIndex((slot) => slot.contains(event.target));
    if (index >= 0) at = index;
    setTimeout(mark, 30);
  });
  new MutationObserver(mark).observe(document, { childList: true, subtree: true });
})();
