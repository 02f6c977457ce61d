// The page's elements. What people wrote goes in by textContent only.

export const $ = (id) => document.getElementById(id);

/** element("li", {class: "x", "data-y": 1}, "text", child) */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null && child !== false));
  return made;
}

const LINK = /https?:\/\/[^\s<>"]+[^\s<>".,:;!?)\]}'»”]/g;

/** Text in which web addresses can be followed. */
function linked(text) {
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    if (!URL.canParse(found)) continue;
    const link = element("a", { href: found, target: "_blank", rel: "noopener noreferrer nofollow ugc" }, found);
    parts.push(text.slice(end, index), link);
    end = index + found.length;
  }
  return [...parts, text.slice(end)];
}

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
const dayAndClock = new Intl.DateTimeFormat([], { weekday: "short", hour: "2-digit", minute: "2-digit" });
const inFull = new Intl.DateTimeFormat([], { dateStyle: "full", timeStyle: "medium" });

function time(seconds) {
  const at = new Date(seconds * 1000);
  const today = at.toDateString() === new Date().toDateString();
  return element(
    "time",
    { datetime: at.toISOString(), title: inFull.format(at) },
    (today ? clock : dayAndClock).format(at),
  );
}

export function bullet(workers, worker, title) {
  return element(
    "span",
    { class: "bullet", "data-colour": workers.colour(worker), title },
    workers.label(worker),
  );
}

const initial = (name) => [...name][0].toUpperCase();

/** One entry of a room's thread: something said, an announcement, or a coming and going. */
export function entryElement(entry, workers, { resend, discard }) {
  if (entry.kind === "event") {
    return element("li", { class: "event", "data-testid": "event" }, element("span", { dir: "auto" }, entry.text), time(entry.at));
  }
  const origin = entry.worker && bullet(workers, entry.worker, `Came from worker ${entry.worker}`);
  const words = element("p", { class: "words", "data-testid": "message-text", dir: "auto" }, ...linked(entry.text));
  if (entry.kind === "announcement") {
    return element(
      "li",
      { class: "announcement", "data-testid": "announcement", "data-worker": entry.worker, "data-colour": entry.worker && workers.colour(entry.worker) },
      element("header", {}, element("strong", {}, "Announcement"), origin || element("span", { class: "quiet" }, "from outside the workers"), time(entry.at)),
      words,
    );
  }
  const made = element(
    "li",
    {
      class: "message",
      "data-testid": "message",
      "data-author": entry.name,
      "data-worker": entry.worker,
      "data-own": String(entry.own),
      "data-state": entry.state,
      "data-colour": entry.worker && workers.colour(entry.worker),
    },
    element("span", { class: "stop", "aria-hidden": "true" }, initial(entry.name)),
    element("header", {}, element("bdi", { class: "author" }, entry.name), entry.own && element("span", { class: "you" }, "you"), origin, time(entry.at)),
    words,
    fate(entry, resend, discard),
  );
  return made;
}

function fate(entry, resend, discard) {
  if (entry.state !== "unsure") return null;
  const again = element("button", { class: "text", type: "button" }, "Send again");
  const drop = element("button", { class: "text", type: "button" }, "Discard");
  again.onclick = () => resend(entry);
  drop.onclick = () => discard(entry);
  return element("p", { class: "fate" }, "Not confirmed: it may not have arrived. ", again, " ", drop);
}

const TOGETHER = 300; // seconds between two messages of one person that share a heading

/** The scrolling thread of the open room. It follows what is new, unless its reader has gone up to read. */
export class Thread {
  #list = $("messages");
  #jump = $("jump");
  #entries = new WeakMap(); // li → entry
  #follows = true;
  #unseen = 0;

  constructor(workers, actions) {
    this.workers = workers;
    this.actions = actions;
    this.#list.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#follows && this.toEnd()).observe(this.#list);
    this.#jump.onclick = () => this.toEnd();
  }

  show(room) {
    this.#list.setAttribute("aria-live", "off"); // a change of rooms is not news
    const made = [];
    for (const entry of [...room.entries, ...room.unsent]) {
      if (entry === room.firstUnread) made.push(element("li", { class: "divider" }, element("span", {}, "New")));
      made.push(this.#make(entry));
    }
    this.#list.replaceChildren(...made);
    for (const li of made) this.#group(li);
    this.#followed();
    const divider = this.#list.querySelector(".divider");
    this.toEnd();
    if (divider && divider.offsetTop < this.#list.scrollTop) divider.scrollIntoView({ block: "start" });
    requestAnimationFrame(() => this.#list.setAttribute("aria-live", "polite"));
  }

  /** Something new: before the messages that are still unsent, or among these. */
  add(entry, { unsent = false, counts = true } = {}) {
    const li = this.#make(entry);
    li.classList.add("fresh");
    const before = unsent ? null : this.#list.querySelector('[data-state="sending"], [data-state="unsure"]');
    this.#list.insertBefore(li, before);
    for (let each = li; each; each = each.nextElementSibling) this.#group(each);
    if (this.#follows || entry.own) this.toEnd();
    else if (counts) this.#count(this.#unseen + 1);
  }

  /** An entry whose fate is now known: drawn anew, where it belongs. */
  settle(entry) {
    const old = this.#find(entry);
    if (!old) return;
    const li = this.#make(entry);
    old.replaceWith(li);
    if (entry.state === "sent") {
      const unsent = this.#list.querySelector('[data-state="sending"], [data-state="unsure"]');
      if (unsent && unsent.compareDocumentPosition(li) & Node.DOCUMENT_POSITION_FOLLOWING) unsent.before(li);
    }
    for (let each = li.previousElementSibling ?? li; each; each = each.nextElementSibling) this.#group(each);
    if (this.#follows) this.toEnd();
  }

  remove(entry) {
    const li = this.#find(entry);
    const next = li?.nextElementSibling;
    li?.remove();
    if (next) this.#group(next);
  }

  toEnd() {
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#followed();
  }

  #make(entry) {
    const li = entryElement(entry, this.workers, this.actions);
    this.#entries.set(li, entry);
    return li;
  }

  #find(entry) {
    return [...this.#list.children].find((li) => this.#entries.get(li) === entry);
  }

  #group(li) {
    const entry = this.#entries.get(li);
    const before = li.previousElementSibling && this.#entries.get(li.previousElementSibling);
    if (entry?.kind !== "say") {
      if (entry?.kind !== "announcement") li.dataset.colour = li.previousElementSibling?.dataset.colour ?? ""; // the line runs on
      return;
    }
    const continues =
      before?.kind === "say" &&
      before.name === entry.name &&
      before.own === entry.own &&
      (entry.own || before.sid === entry.sid) &&
      before.worker === entry.worker &&
      entry.at - before.at < TOGETHER;
    li.classList.toggle("first", !continues);
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#list;
    if (scrollHeight - scrollTop - clientHeight < 40) this.#followed();
    else this.#follows = false;
  }

  #followed() {
    this.#follows = true;
    this.#count(0);
  }

  #count(unseen) {
    this.#unseen = unseen;
    this.#jump.hidden = unseen === 0;
    this.#jump.textContent = unseen === 1 ? "1 new message" : `${unseen} new messages`;
  }
}

/** The list of rooms. Its elements stay, so that focus does too. */
export class RoomList {
  #list = $("room-list");
  #items = new Map(); // name → li

  constructor(open, leave) {
    this.open = open;
    this.leave = leave;
  }

  draw(rooms, current) {
    for (const [name, li] of this.#items) {
      if (rooms.has(name)) continue;
      li.remove();
      this.#items.delete(name);
    }
    for (const room of rooms.values()) this.#update(this.#items.get(room.name) ?? this.#make(room.name), room, room === current);
  }

  #make(name) {
    const open = element(
      "button",
      { class: "room-open", "data-testid": "room-open", type: "button" },
      element("bdi", { class: "room-name" }, name),
      element("span", { class: "unread" }),
    );
    const leave = element("button", { class: "room-leave", "data-testid": "room-leave", type: "button", "aria-label": `Leave ${name}`, title: "Leave" }, "×");
    open.onclick = () => this.open(name);
    leave.onclick = () => this.leave(name);
    const li = element("li", { "data-testid": "room-item", "data-room": name }, open, leave);
    this.#list.append(li);
    this.#items.set(name, li);
    return li;
  }

  #update(li, room, current) {
    li.dataset.unread = room.unread;
    li.dataset.joined = room.joined;
    li.toggleAttribute("data-visited", room.visited);
    li.toggleAttribute("data-current", current);
    const [open, leave] = li.children;
    if (current) open.setAttribute("aria-current", "page");
    else open.removeAttribute("aria-current");
    const unread = open.lastElementChild;
    unread.hidden = room.unread === 0;
    unread.textContent = room.unread > 99 ? "99+" : room.unread;
    unread.setAttribute("aria-label", `, ${room.unread} unread`);
    leave.hidden = current || !room.visited;
  }
}
