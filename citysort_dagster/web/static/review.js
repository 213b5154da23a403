// Keys of the review page, and a button that says what it will do. The page works without.
"use strict";

(() => {
  // What has just been decided is read out first: a page that is new announces nothing by itself.
  document.getElementById("said")?.focus();

  const form = document.getElementById("decision");
  if (!form) return;
  const approve = document.getElementById("approve");
  const help = document.getElementById("help");
  const type = document.getElementById("doc_type");
  const department = document.getElementById("department");
  const keysOn = document.getElementById("keys-on");
  const STORED = "citysort.keys";

  const controls = () => [...form.querySelectorAll("select, input[type=text]")];
  const isChanged = (control) =>
    control instanceof HTMLSelectElement
      ? [...control.options].some((option) => option.selected !== option.defaultSelected)
      : control.value !== control.defaultValue;

  const tellChanges = () => {
    if (!approve) return;
    approve.textContent = controls().some(isChanged) ? approve.dataset.changed : approve.dataset.unchanged;
  };
  form.addEventListener("input", tellChanges);
  form.addEventListener("change", tellChanges);

  // From here on what is shown is what is meant, also where somebody chooses the former department again.
  form.elements.namedItem("department_is_shown").value = "yes";
  type.addEventListener("change", () => {
    const own = type.selectedOptions[0].dataset.department;
    if (own) department.value = own;
    tellChanges();
  });

  let deciding = false;
  form.addEventListener("submit", (event) => {
    if (deciding) event.preventDefault();
    deciding = true;
  });
  // A page that the browser kept and shows again can be decided on again.
  window.addEventListener("pageshow", () => {
    deciding = false;
    tellChanges();
  });

  const edit = () => {
    const missing = form.querySelector(".field:has(.badge) input");
    (missing ?? type).focus();
  };
  const follow = (id) => document.getElementById(id)?.click();
  const actions = {
    a: () => approve && form.requestSubmit(approve),
    e: edit,
    j: () => follow("next"),
    k: () => follow("previous"),
    "?": () => help.showModal(),
  };

  try {
    keysOn.checked = localStorage.getItem(STORED) !== "off";
  } catch {
    // A browser that keeps nothing: the keys are on.
  }
  keysOn.addEventListener("change", () => {
    try {
      localStorage.setItem(STORED, keysOn.checked ? "on" : "off");
    } catch {
      // As above: it counts until the page is left.
    }
  });
  document.getElementById("key-actions").hidden = false;
  document.getElementById("show-help").addEventListener("click", () => help.showModal());

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    if (help.open) return;
    const inControl = event.target.closest?.("input, select, textarea");
    if (event.key === "Escape" && inControl) {
      inControl.blur();
      return;
    }
    if (inControl || !keysOn.checked || !Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    actions[event.key]();
  });
})();
