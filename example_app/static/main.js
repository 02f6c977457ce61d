// The page's own logic: what the endpoint says goes into rooms.js and onto the page, what the person does goes out.

import { Admin } from "./admin.js";
import { Connection } from "./connection.js";
import { names, theme, visited } from "./memory.js";
import { Room, Workers } from "./rooms.js";
import { $, RoomList, Thread, bullet, element } from "./view.js";

const TOPICS = new Map([
  ["lobby", "Everyone comes through here"],
  ["music", "What are you listening to?"],
  ["tea", "The kettle is always on"],
]);
const LONGEST_NAME = 32;
const TYPING_EVERY = 2_000;
const CONFIRMED_WITHIN = 10_000;
const JOIN_AGAIN = 5_000;
const LEFT_FOR_GOOD = 4_000; // a reload or a new worker is not worth a "left" and a "came in"

const me = { sid: "", name: "", worker: "" };
const rooms = new Map([...TOPICS.keys()].map((name) => [name, makeRoom(name)]));
const workers = new Workers();
const connection = new Connection(() => {
  const url = new URL("ws", location.href.split("#")[0]);
  url.protocol = url.protocol.replace("http", "ws");
  url.searchParams.set("name", me.name);
  return url;
});
const admin = new Admin();
const thread = new Thread(workers, { resend, discard });
const roomList = new RoomList(open, leave);
let current = null;

// ── rooms ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function makeRoom(name) {
  return Object.assign(new Room(name), { visited: false });
}

function tidy(name) {
  return [...name.trim().replace(/\s+/g, " ").toLowerCase()].slice(0, LONGEST_NAME).join("");
}

/** Rooms once visited stay joined for as long as this tab lives, so that they can show what is unread. */
function visit(name) {
  if (!rooms.has(name)) rooms.set(name, makeRoom(name));
  const room = rooms.get(name);
  if (!room.visited) {
    room.visited = true;
    visited.keep([...rooms.values()].filter((each) => each.visited).map((each) => each.name));
    join(room);
  }
  return room;
}

function join(room) {
  if (room.visited) connection.send({ type: "join", room: room.name, since: room.position });
}

function open(name) {
  const room = visit(name);
  if (room !== current) {
    if (current) {
      current.draft = $("composer").value;
      current.firstUnread = null;
    }
    current = room;
    $("composer").value = room.draft;
    room.unread = 0;
    thread.show(room);
    const hash = `#${encodeURIComponent(name)}`;
    if (location.hash !== hash) location.hash = hash;
  }
  closePanels();
  drawNow();
  if (!$("name-dialog").open) focusComposer();
}

/** Not where it would bring up a keyboard that nobody asked for. */
function focusComposer() {
  if (matchMedia("(pointer: fine)").matches) $("composer").focus();
}

function leave(name) {
  const room = rooms.get(name);
  connection.send({ type: "leave", room: name });
  Object.assign(room, { visited: false, joined: false, unread: 0 });
  room.forgetPeople();
  if (!TOPICS.has(name)) rooms.delete(name);
  visited.keep([...rooms.values()].filter((each) => each.visited).map((each) => each.name));
  drawNow();
}

function fromHash() {
  try {
    return tidy(decodeURIComponent(location.hash.slice(1)));
  } catch {
    return "";
  }
}

// ── what comes in ────────────────────────────────────────────────────────────────────────────────────────────────────

const incoming = {
  welcome({ sid, worker }) {
    Object.assign(me, { sid, worker });
    for (const room of new Set([current, ...rooms.values()])) join(room);
  },

  /** What was missed, or the last that was said, has come before it. */
  joined({ room, recovered, position }) {
    if (!room) return;
    if (recovered === false) event(room, "You were away for long: something that was said may be missing here");
    room.joined = true;
    room.mark(position);
  },

  /** Everything before this position has come: it is where to go on after a lost connection. */
  mark({ room, position }) {
    room?.mark(position);
  },

  /** Somebody is in the room: just come, or by a new name. */
  here({ room, sid, name, worker }) {
    if (!room || sid === me.sid) return;
    const before = room.people.get(sid);
    if (!before && room.met && !room.hasName(name)) came(room, name);
    if (before && before.name !== name) event(room, `${before.name} is now ${name}`);
    room.note(sid, { name, worker });
  },

  gone({ room, sid }) {
    if (!room) return;
    const person = room.people.get(sid);
    room.note(sid, null);
    room.stoppedTyping(sid);
    if (person && !room.hasName(person.name)) left(room, person.name);
  },

  /** From now on people are noted apart, until the workers have answered who is in the room. */
  roll({ room, roll }) {
    room?.rollBegins(roll);
  },

  people({ room, roll, people }) {
    if (!room) return;
    const { met } = room;
    const before = room.names;
    for (const { worker } of people) workers.heard(worker);
    if (!room.rollEnds(roll, people.filter(({ sid }) => sid !== me.sid)) || !met) return;
    for (const name of before) if (!room.hasName(name)) left(room, name);
    for (const name of room.names) if (!before.has(name)) came(room, name);
  },

  say({ room, sid, name, worker, text, at, ref }) {
    if (!room) return;
    room.stoppedTyping(sid);
    const unsent = room.unsent.find((entry) => entry.ref === ref); // also by the sid of an earlier connection
    if (unsent) {
      room.unsent.splice(room.unsent.indexOf(unsent), 1);
      room.add(Object.assign(unsent, { state: "sent", worker, at }));
      if (room === current) thread.settle(unsent);
      return;
    }
    news(room, { kind: "say", state: "sent", own: sid === me.sid, sid, name, worker, text, at, ref });
  },

  /** Of our own route, or of any program: then there may be no more than a text, which is for whoever reads it. */
  announcement({ room, to, worker, text, at, ref }) {
    if (to === undefined) room = current;
    if (room) news(room, { kind: "announcement", worker, text: String(text), at: Number.isFinite(at) ? at : Date.now() / 1000, ref });
  },

  typing({ room, sid, name }) {
    room?.typed(sid, name);
  },

  /** The heartbeat. */
  workers({ workers: alive }) {
    workers.areNow(alive);
    for (const room of rooms.values()) if (room.joined && room.unmarked) connection.send({ type: "mark", room: room.name });
  },

  gap({ lost }) {
    const missing = lost ? "messages are missing here" : "it has read what was said meanwhile";
    for (const room of rooms.values()) {
      if (room.visited) event(room, `Your worker lost touch with the others for a moment: ${missing}`);
    }
  },

  error({ message, about, room }) {
    const entry = about?.type === "say" && [...(room?.entries ?? []), ...(room?.unsent ?? [])].find(({ ref }) => ref === about.ref);
    if (entry) {
      if (entry.state !== "sent") unconfirmed(room, entry); // else its echo came before the bad news, which is none then
    } else if ((room ?? current)?.entries.at(-1)?.text !== message) {
      event(room ?? current, message);
    }
    if (about?.type === "join") setTimeout(() => room?.joined || join(room), JOIN_AGAIN);
  },
};

connection.addEventListener("message", ({ detail }) => {
  if (detail.worker) workers.heard(detail.worker);
  const room = rooms.get(detail.room ?? detail.about?.room);
  incoming[detail.type]?.({ ...detail, to: detail.room, room: room?.visited ? room : undefined });
  draw();
});

connection.addEventListener("state", () => {
  if (connection.state !== "online") {
    me.worker = "";
    for (const room of rooms.values()) {
      room.joined = false;
      for (const entry of room.unsent) unconfirmed(room, entry);
    }
  }
  draw();
});

/** Something to read. It is unread when nobody can have seen it. */
function news(room, entry) {
  if (room.has(entry.ref)) return; // replayed
  const isOld = !room.position; // said before we came here for the first time
  room.add(entry);
  if (!isOld && (room !== current || document.hidden)) {
    room.unread += 1;
    if (room !== current) room.firstUnread ??= entry;
  }
  if (room === current) thread.add(entry);
}

function event(room, text) {
  const entry = { kind: "event", text, at: Date.now() / 1000 };
  room.add(entry);
  if (room === current) thread.add(entry, { counts: false });
}

const leaving = new Map(); // "room name" → timer

function came(room, name) {
  const key = JSON.stringify([room.name, name]);
  if (leaving.has(key)) {
    clearTimeout(leaving.get(key));
    leaving.delete(key);
  } else {
    event(room, `${name} came in`);
  }
}

function left(room, name) {
  const key = JSON.stringify([room.name, name]);
  const said = () => {
    leaving.delete(key);
    event(room, `${name} left`);
    draw();
  };
  clearTimeout(leaving.get(key));
  leaving.set(key, setTimeout(said, LEFT_FOR_GOOD));
}

setInterval(draw, 1_000); // typing ends, and the seconds to the next attempt are counted down

// ── what goes out ────────────────────────────────────────────────────────────────────────────────────────────────────

function say(room, text) {
  const entry = {
    kind: "say",
    state: "sending",
    own: true,
    sid: me.sid,
    name: me.name,
    worker: me.worker,
    text,
    at: Date.now() / 1000,
    ref: crypto.getRandomValues(new Uint32Array(2)).join("-"),
  };
  if (!connection.send({ type: "say", room: room.name, text, ref: entry.ref })) return false;
  room.unsent.push(entry);
  if (room === current) thread.add(entry, { unsent: true });
  setTimeout(() => room.unsent.includes(entry) && unconfirmed(room, entry), CONFIRMED_WITHIN);
  return true;
}

function unconfirmed(room, entry) {
  entry.state = "unsure";
  if (room === current) thread.settle(entry);
}

function resend(entry) {
  if (!canSend()) return;
  discard(entry);
  say(current, entry.text);
}

function discard(entry) {
  current.unsent.splice(current.unsent.indexOf(entry), 1);
  thread.remove(entry);
  draw();
}

function canSend() {
  return connection.state === "online" && Boolean(current?.joined);
}

const composer = $("composer");
let typedAt = 0;

$("composer-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const text = composer.value.trim();
  if (!text || !canSend() || !say(current, text)) return;
  composer.value = "";
  typedAt = 0;
  composer.focus();
  draw();
});

composer.addEventListener("keydown", (pressed) => {
  if (pressed.key !== "Enter" || pressed.shiftKey || pressed.isComposing) return;
  pressed.preventDefault();
  $("composer-form").requestSubmit();
});

composer.addEventListener("input", () => {
  if (canSend() && composer.value.trim() && Date.now() - typedAt > TYPING_EVERY) {
    typedAt = Date.now();
    connection.send({ type: "typing", room: current.name });
  }
  draw();
});

$("room-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const name = tidy($("room-input").value);
  $("room-input").value = "";
  if (name) open(name);
});

addEventListener("hashchange", () => fromHash() && me.name && open(fromHash()));

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && current) current.unread = 0;
  draw();
});

$("come-back").onclick = () => {
  connection.open();
  composer.focus();
};
$("retry").onclick = () => connection.open();
$("reconnect").onclick = () => {
  closePanels();
  connection.reconnect();
};

// ── the name ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const nameDialog = $("name-dialog");

function askName() {
  roomList.draw(rooms, current);
  $("name-input").value = me.name || names.ofThisBrowser();
  $("name-submit").textContent = me.name ? "Keep" : "Come in";
  closePanels();
  nameDialog.showModal();
  $("name-input").select();
}

$("name-form").addEventListener("submit", (submitted) => {
  const name = $("name-input").value.trim();
  if (!name) return submitted.preventDefault();
  const first = !me.name;
  me.name = name;
  names.keep(name);
  if (first) begin();
  else connection.send({ type: "rename", name });
  draw();
});

nameDialog.addEventListener("cancel", (pressed) => me.name || pressed.preventDefault());
$("rename").onclick = askName;

function begin() {
  for (const name of visited.all()) visit(name);
  connection.open();
  open(fromHash() || "lobby");
  if (admin.wanted) beginAsAdmin();
}

// ── the admin ────────────────────────────────────────────────────────────────────────────────────────────────────────

async function beginAsAdmin() {
  if (admin.hasToken && (await signIn())) return;
  closePanels();
  $("admin-dialog").showModal();
}

async function signIn(token) {
  try {
    await admin.signIn(token);
  } catch (problem) {
    put("admin-wrong", problem.message);
    return false;
  }
  draw();
  return true;
}

$("admin-form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  put("admin-wrong", "");
  if (await signIn($("admin-input").value.trim())) $("admin-dialog").close();
  else $("admin-input").select();
});

$("admin-cancel").onclick = () => $("admin-dialog").close();
$("admin-dialog").addEventListener("close", () => {
  $("admin-input").value = "";
  if (!admin.signedIn) admin.signOut();
  focusComposer();
});
$("admin-sign-out").onclick = () => {
  admin.signOut();
  drawNow();
  $("people").focus();
};

$("people").addEventListener("click", ({ target }) => {
  const { sid, name } = target.closest("[data-testid=disconnect]")?.closest("li").dataset ?? {};
  if (!sid) return;
  const dialog = $("disconnect-dialog");
  put("disconnect-heading", `Disconnect ${name}?`);
  dialog.returnValue = "";
  dialog.onclose = () => dialog.returnValue && disconnect(sid, name);
  dialog.showModal();
});

async function disconnect(sid, name) {
  const room = current;
  $("people").focus(); // the button goes with the person
  try {
    await admin.disconnect(sid);
    event(room, `You have disconnected ${name}`);
  } catch (problem) {
    event(room, `${name} is not disconnected: ${problem.message}`);
  }
}

// ── the page around it ───────────────────────────────────────────────────────────────────────────────────────────────

const wide = matchMedia("(min-width: 64rem)");

function closePanels() {
  for (const panel of [$("board"), $("aside")]) if (panel.matches(":popover-open")) panel.hidePopover();
}
wide.addEventListener("change", closePanels);

const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
dark.addEventListener("change", draw);
$("theme-toggle").onclick = () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  theme.keep(document.documentElement.dataset.theme);
  draw();
};

for (const button of document.querySelectorAll(".copy")) {
  button.onclick = async () => {
    const code = $(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1_500);
    } catch {
      getSelection().selectAllChildren(code); // no clipboard without https: selected is half of copied
    }
  };
}

/** For screen readers: the changes, without the seconds. */
const SPOKEN = { connecting: "", online: "Connected", waiting: "Connection lost, reconnecting", offline: "Offline", ended: "" };

function statusText() {
  const seconds = Math.max(1, Math.ceil((connection.retryAt - Date.now()) / 1000));
  return {
    connecting: "Connecting…",
    online: "Connected",
    waiting: `Reconnecting in ${seconds} s`,
    offline: `Offline, trying again in ${seconds} s`,
    ended: "Disconnected",
  }[connection.state];
}

function typingText(typists) {
  if (typists.length === 0) return "";
  if (typists.length > 3) return "Several people are typing…";
  return `${new Intl.ListFormat("en").format(typists)} ${typists.length === 1 ? "is" : "are"} typing…`;
}

function noteText() {
  const left = composer.maxLength - composer.value.length;
  if (connection.state === "ended") return "You are disconnected. What you write stays here.";
  if (connection.state !== "online") return "Not connected. What you write stays here, and is not sent until you send it.";
  if (!current.joined) return "Entering the room…";
  return left <= 100 ? `${left} characters left` : "";
}

function put(id, text) {
  if ($(id).textContent !== String(text)) $(id).textContent = text; // live regions speak at every change
}

/** What is the same stays, so that focus does too. */
function fill(list, made) {
  for (const old of [...list.children]) if (!made.some((each) => each.isEqualNode(old))) old.remove();
  for (const [n, each] of made.entries()) {
    if (!list.children[n]?.isEqualNode(each)) list.insertBefore(each, list.children[n] ?? null);
  }
  while (list.children.length > made.length) list.lastElementChild.remove();
}

let drawing = false;

/** Everything but the thread is drawn from the state, once for whatever comes together; in a hidden tab too, for its title. */
function draw() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    if (current) drawNow();
  });
}

function drawNow() {
  const { state } = connection;
  put("self-name", me.name);
  $("theme-toggle").setAttribute("aria-label", isDark() ? "Use the light theme" : "Use the dark theme");

  roomList.draw(rooms, current);
  put("room-title", current.name);
  put("room-topic", TOPICS.get(current.name) ?? "Open to whoever knows its name");
  const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  $("unread-total").hidden = unread === 0;
  put("unread-total", unread > 99 ? "99+" : unread);
  document.title = `${unread ? `(${unread}) ` : ""}${current.name} · Interchange`;

  $("status").dataset.state = state;
  put("status", statusText());
  put("status-spoken", SPOKEN[state]);
  $("retry").hidden = state !== "waiting" && state !== "offline";
  $("ended").hidden = state !== "ended";
  put("ended-reason", state === "ended" ? `${connection.reason || "You have been disconnected"}.` : "");
  const badge = $("worker-badge");
  badge.dataset.worker = me.worker;
  badge.title = me.worker && `This tab is served by worker ${me.worker}`;
  put("worker-badge", me.worker ? workers.label(me.worker) : "–");
  if (me.worker) badge.dataset.colour = workers.colour(me.worker);
  else delete badge.dataset.colour;

  const people = [...current.people].map(([sid, person]) => ({ sid, ...person })).sort((a, b) => a.name.localeCompare(b.name));
  if (current.joined) people.unshift({ ...me, self: true });
  fill($("people"), people.map(personElement));
  $("admin-bar").hidden = !admin.signedIn;
  $("aside").toggleAttribute("data-cut-off", state !== "online");
  put("people-count", people.length);
  put("people-count-small", people.length);
  fill($("worker-list"), workers.all.map((worker) => workerElement(worker, people)));

  $("empty").hidden = current.entries.length + current.unsent.length > 0;
  put("typing", typingText(current.typing));
  put("composer-note", noteText());
  put("composer-label", `Message to ${current.name}`);
  composer.placeholder = `Say something in ${current.name}`;
  $("send").disabled = !canSend() || !composer.value.trim();

  const at = (route) => new URL(route, location.href);
  const room = encodeURIComponent(current.name);
  put("curl-events", `curl -N ${at(`events/${room}`)}`);
  put("curl-announce", `curl ${at(`announce/${room}`)} --json '{"text": "The kettle is on"}'`);
  put("curl-health", `curl ${at("health")}`);
}

function personElement({ sid, name, worker, self = false }) {
  const disconnect = element("button", { class: "text", type: "button", "data-testid": "disconnect", "aria-label": `Disconnect ${name}` }, "Disconnect");
  return element(
    "li",
    { "data-testid": "person", "data-sid": sid, "data-name": name, "data-worker": worker, "data-self": String(self) },
    element("bdi", {}, name),
    self && element("span", { class: "you" }, "you"),
    admin.signedIn && !self && disconnect,
    bullet(workers, worker, `On worker ${worker}`),
  );
}

function workerElement(worker, people) {
  const here = people.filter((person) => person.worker === worker).length;
  return element(
    "li",
    { "data-testid": "worker", "data-worker": worker },
    bullet(workers, worker, worker),
    worker === me.worker && element("span", { class: "you" }, "this tab"),
    element("span", {}, here ? `${here} in this room` : "nobody in this room"),
  );
}

me.name = names.ofThisTab();
if (me.name) begin();
else askName();
