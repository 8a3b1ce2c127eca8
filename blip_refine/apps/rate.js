"use strict";
// Keys for raters: 1 to 5 answer the current question, Backspace goes back to the one before, Enter sends.
(() => {
  let back = null; // the question gone back to; otherwise the first without an answer is the current one
  let sent = null; // the task whose answers are on their way

  const visible = (element) => element.offsetParent !== null;
  const questions = () => Array.from(document.querySelectorAll(".question")).filter(visible);
  const inputs = (question) => Array.from(question.querySelectorAll("input[type=radio]"));
  const answered = (question) => inputs(question).some((input) => input.checked);
  const task = () => document.querySelector("[data-task]")?.dataset.task ?? null;

  const current = () => {
    const all = questions();
    if (back !== null && back < all.length) return back;
    const open = all.findIndex((question) => !answered(question));
    return open < 0 ? all.length : open;
  };

  const mark = () => {
    const all = questions();
    const place = current();
    all.forEach((question, index) => question.classList.toggle("current", index === place));
    document.getElementById("send")?.classList.toggle("ready", all.length > 0 && place === all.length);
    if (sent !== null && task() !== sent) { sent = null; back = null; window.scrollTo({ top: 0 }); }
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input:not([type=radio]), textarea, select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !questions().length || sent !== null) return;
    const all = questions();
    const place = current();
    if (/^[1-9]$/.test(event.key) && place < all.length) {
      const input = inputs(all[place])[Number(event.key) - 1];
      if (!input) return;
      input.click();
      back = null;
      setTimeout(() => { all[place + 1]?.scrollIntoView({ block: "nearest" }); mark(); }, 30);
    } else if (event.key === "Backspace") {
      back = Math.max(0, place - 1);
      all[back].scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" && place === all.length) {
      sent = task();
      document.getElementById("send").click();
    } else {
      return;
    }
    event.preventDefault();
    mark();
  });

  document.addEventListener("click", () => setTimeout(mark, 30));
  new MutationObserver(mark).observe(document, { childList: true, subtree: true });
})();
