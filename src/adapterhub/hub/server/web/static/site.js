// What makes the pages nicer; all of them work without it.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function copying() {
  for (const button of all("[data-copy]")) {
    button.hidden = false;
    const label = button.textContent;
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => {
      const text = button.parentElement.querySelector("code").textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(button.parentElement.querySelector("code"));
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = label; }, 1600);
    });
  }
}

function tabs() {
  for (const group of all("[data-tabs]")) {
    const panels = all(":scope > section", group);
    const bar = document.createElement("div");
    bar.className = "tab-bar";
    bar.setAttribute("role", "tablist");
    bar.setAttribute("aria-label", "What to do with it");
    const buttons = panels.map((panel) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = panel.dataset.tab;
      button.id = `tab-${panel.id}`;
      button.setAttribute("role", "tab");
      button.setAttribute("aria-controls", panel.id);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", button.id);
      bar.append(button);
      return button;
    });
    const show = (index) => panels.forEach((panel, at) => {
      panel.hidden = at !== index;
      buttons[at].setAttribute("aria-selected", String(at === index));
      buttons[at].tabIndex = at === index ? 0 : -1;
    });
    buttons.forEach((button, index) => {
      button.addEventListener("click", () => show(index));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = (index + step + panels.length) % panels.length;
        show(next);
        buttons[next].focus();
      });
    });
    group.prepend(bar);
    group.classList.add("tabbed");
    show(0);
  }
}

function suggesting() {
  for (const input of all("[data-suggest]")) {
    const list = document.createElement("ul");
    list.className = "suggestions";
    list.id = `suggestions-${Math.random().toString(36).slice(2)}`;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Suggestions");
    list.hidden = true;
    input.closest("form").append(list);
    for (const [name, value] of Object.entries({
      role: "combobox", "aria-expanded": "false", "aria-controls": list.id, "aria-autocomplete": "list",
    })) input.setAttribute(name, value);
    let waiting, asked = "", at = -1;
    const hide = () => { list.hidden = true; at = -1; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
    const mark = (index) => {
      at = index;
      [...list.children].forEach((row, i) => row.setAttribute("aria-selected", String(i === at)));
      if (at >= 0) input.setAttribute("aria-activedescendant", list.children[at].id);
    };
    const ask = async () => {
      const text = input.value.trim();
      if (text.length < 2) return hide();
      asked = text;
      const answer = await fetch(`/search/suggest?q=${encodeURIComponent(text)}`);
      if (!answer.ok || asked !== text) return;
      const found = await answer.json();
      list.replaceChildren(...found.map((one, index) => {
        const row = document.createElement("li");
        row.id = `${list.id}-${index}`;
        row.setAttribute("role", "option");
        const link = document.createElement("a");
        link.href = one.path;
        link.tabIndex = -1;
        const title = document.createElement("b"), note = document.createElement("span");
        title.textContent = one.title;
        note.textContent = one.note;
        link.append(title, note);
        row.append(link);
        return row;
      }));
      list.hidden = found.length === 0;
      input.setAttribute("aria-expanded", String(found.length > 0));
      at = -1;
    };
    input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(ask, 120); });
    input.addEventListener("keydown", (event) => {
      const count = list.hidden ? 0 : list.children.length;
      if (event.key === "Escape" && count) { event.preventDefault(); hide(); }
      else if (count && event.key === "ArrowDown") { event.preventDefault(); mark((at + 1) % count); }
      else if (count && event.key === "ArrowUp") { event.preventDefault(); mark((at - 1 + count) % count); }
      else if (count && event.key === "Enter" && at >= 0) { event.preventDefault(); location.assign(list.children[at].firstChild.href); }
    });
    input.addEventListener("blur", () => setTimeout(hide, 200));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const input = document.querySelector("[data-suggest]");
    if (input) { event.preventDefault(); input.focus(); }
  });
}

function menus() {
  for (const menu of all("details.menu")) {
    document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
    menu.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); }
    });
  }
}

function selects() {
  for (const form of all("form[data-at-once]")) {
    form.addEventListener("change", () => form.requestSubmit());
    for (const button of all("button", form)) button.hidden = true;
  }
}

function filters() {
  if (matchMedia("(max-width: 48rem)").matches) for (const one of all("[data-open-wide]")) one.open = false;
}

// Files of a folder that was dropped, with the paths below it.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => [file.name, file]);
  const found = [];
  const walk = async (entry, path) => {
    if (entry.isFile) {
      found.push([path + entry.name, await new Promise((done, fail) => entry.file(done, fail))]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, fail) => reader.readEntries(done, fail));
      if (!some.length) return;
      for (const one of some) await walk(one, `${path}${entry.name}/`);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return entries.some((entry) => entry.isDirectory) && entries.length === 1 ? below(found) : found;
}

const below = (files) => files.map(([path, file]) => [path.split("/").slice(1).join("/"), file]);

function uploading() {
  const form = document.querySelector("[data-upload]");
  if (!form) return;
  const drop = form.querySelector("[data-drop]"), list = form.querySelector("[data-sent]");
  const publish = form.querySelector("[data-publish]"), word = form.elements.csrf.value;
  let running = 0, bad = 0;
  const send = (path, file) => new Promise((done) => {
    const row = document.createElement("li");
    const name = document.createElement("code"), bar = document.createElement("progress"), note = document.createElement("span");
    name.textContent = path;
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", `Sending ${path}`);
    note.textContent = "waits";
    row.append(name, bar, note);
    list.append(row);
    const request = new XMLHttpRequest();
    request.open("PUT", `/upload/file?path=${encodeURIComponent(path)}`);
    request.setRequestHeader("X-CSRF", word);
    request.upload.onprogress = (event) => { bar.value = event.loaded / Math.max(event.total, 1); note.textContent = "is sent"; };
    request.onloadend = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* no answer of ours */ }
      bar.remove();
      const good = request.status === 200 && "sha256" in answer; // else it may be the page to sign in
      const failed = request.responseURL.includes("/login") ? "you are signed out: sign in again" : "could not be sent: try again";
      row.className = good ? "good" : "bad";
      note.textContent = good ? (answer.sha256 ? "checked" : "left out") : answer.problem || failed;
      if (good && answer.sha256) {
        const field = document.createElement("input");
        Object.assign(field, { type: "hidden", name: "sent", value: `${answer.sha256} ${path}` });
        row.append(field);
      } else if (!good) {
        bad += 1;
        const away = document.createElement("button");
        away.type = "button";
        away.className = "link";
        away.textContent = "Leave out";
        away.addEventListener("click", () => { row.remove(); bad -= 1; state(); });
        row.append(away);
      }
      done();
    };
    request.send(file);
  });
  const state = () => { publish.disabled = running > 0 || bad > 0; };
  const take = async (files) => {
    list.hidden = false;
    running += 1;
    state();
    for (const [path, file] of files) await send(path, file);
    running -= 1;
    state();
    if (!form.elements.name.value) form.elements.name.focus();
  };
  const files = form.querySelector("#files"), folder = form.querySelector("#folder");
  files.addEventListener("change", () => { take([...files.files].map((file) => [file.name, file])); files.value = ""; });
  folder.addEventListener("change", () => {
    take(below([...folder.files].map((file) => [file.webkitRelativePath, file])));
    folder.value = "";
  });
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => { event.preventDefault(); take(await dropped(event.dataTransfer)); });
}

function trying() {
  for (const form of all("[data-try]")) {
    const answer = form.parentElement.querySelector("[data-answer]"), button = form.querySelector("button");
    const say = (text) => {
      const said = document.createElement("p");
      said.className = "soft";
      said.textContent = text;
      answer.replaceChildren(said);
    };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (button.disabled) return;
      button.disabled = true;
      say("Running…");
      try {
        const came = await fetch(form.action, { method: "POST", headers: { "X-Part": "answer" }, body: new URLSearchParams(new FormData(form)) });
        if (came.headers.get("X-Part") === "answer") answer.innerHTML = await came.text(); // made and escaped by the server
        else say("This page is out of date: load it again.");
      } catch {
        say("This hub does not answer: try again later.");
      }
      button.disabled = false;
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  }
}

copying();
tabs();
suggesting();
menus();
selects();
filters();
uploading();
trying();
