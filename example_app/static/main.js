// The page's own logic: what the endpoint says goes into rooms.js and onto the page, what the person does goes out.

import { connect } from "../rooms/client.js";
import { Admin } from "./admin.js";
import { before, forReload, names, theme, visited } from "./memory.js";
import { Room, Workers } from "./rooms.js";
import { $, RoomList, Thread, bullet, element } from "./view.js";

const TOPICS = new Map([
  ["lobby", "Everyone comes through here"],
  ["music", "What are you listening to?"],
  ["tea", "The kettle is always on"],
]);
const GONE = "Older messages are gone";
const LONGEST_NAME = 32;
const TYPING_EVERY = 2_000;
const CONFIRMED_WITHIN = 10_000;
const LEFT_FOR_GOOD = 4_000; // a reload or a new worker is not worth a "left" and a "came in"

const me = { sid: "", name: "", worker: "" };
const kept = new Map(before().map((room) => [room.name, room]));
const rooms = new Map([...TOPICS.keys()].map((name) => [name, makeRoom(name)]));
const workers = new Workers();
let client = null; // as soon as there is a name
let connection = { state: "idle" }; // what the client last said of it
const admin = new Admin();
const thread = new Thread(workers, { resend, discard });
const roomList = new RoomList(open, leave);
let current = null;

// ── rooms ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function makeRoom(name) {
  return Object.assign(new Room(name, kept.get(name)), { visited: false });
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
  if (room.visited) tell({ type: "join", room: room.name });
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
  tell({ type: "leave", room: name });
  kept.delete(name);
  if (TOPICS.has(name)) rooms.set(name, makeRoom(name));
  else rooms.delete(name);
  visited.keep([...rooms.values()].filter((each) => each.visited).map((each) => each.name));
  for (const each of rooms.values()) if (!each.joined) join(each); // one that was too many may be in now
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
  joined({ room }) {
    if (room?.enters()) event(room, GONE);
  },

  here({ room, version, sid, name, worker }) {
    if (room) changed(room, () => room.change(version, sid, { name, worker }));
  },

  gone({ room, version, sid }) {
    if (!room) return;
    room.stoppedTyping(sid);
    changed(room, () => room.change(version, sid, null));
  },

  people({ room, version, people }) {
    if (room) changed(room, () => room.areNow(people, version) ?? true);
  },

  say({ room, sid, name, worker, text, at, ref, position }) {
    if (!room || isKnown(room, position)) return;
    room.stoppedTyping(sid);
    const unsent = room.unsent.find((entry) => entry.ref === ref); // also by the sid of an earlier connection
    if (unsent) {
      room.unsent.splice(room.unsent.indexOf(unsent), 1);
      room.add(Object.assign(unsent, { state: "sent", worker, at, position }));
      if (room === current) thread.settle(unsent);
      return;
    }
    news(room, { kind: "say", state: "sent", own: sid === me.sid, sid, name, worker, text, at, ref, position });
  },

  /** Of our own route, or of any program: then there may be no more than a text, which is for whoever reads it. */
  announcement({ room, to, worker, text, at, position }) {
    if (to === undefined) room = current;
    if (!room || isKnown(room, position)) return;
    news(room, { kind: "announcement", worker, text: String(text), at: Number.isFinite(at) ? at : Date.now() / 1000, position });
  },

  typing({ room, sid, name }) {
    room?.typed(sid, name);
  },

  workers({ workers: alive }) {
    workers.areNow(alive);
  },

  gap({ room, lost }) {
    const meanwhile = lost ? "something that was said may be missing here" : "it reads what was said meanwhile";
    if (room) event(room, `Your worker lost touch with the others for a moment: ${meanwhile}`);
  },

  error({ message, about, room }) {
    const entry = about?.type === "say" && [...(room?.entries ?? []), ...(room?.unsent ?? [])].find(({ ref }) => ref === about.ref);
    if (entry) {
      if (entry.state !== "sent") unconfirmed(room, entry); // else its echo came before the bad news, which is none then
    } else if ((room ?? current)?.entries.at(-1)?.text !== message) {
      event(room ?? current, message);
    }
  },
};

function heard({ data, lastEventId }) {
  const message = decoded(data);
  if (message.worker) workers.heard(message.worker);
  const room = rooms.get(message.room ?? message.about?.room);
  incoming[message.type]?.({ ...message, to: message.room, room: room?.visited ? room : undefined, position: lastEventId });
  draw();
}

/** A program's message need not be in our words, nor in JSON: then it is the text of an announcement. */
function decoded(data) {
  if (typeof data !== "string") return { type: "bytes" };
  try {
    const message = JSON.parse(data);
    if (typeof message?.type === "string") return message;
  } catch {
    // Plain text, then.
  }
  return { type: "announcement", text: data };
}

/** By room, whether all that was said since we were here follows. Else the last that was said does, as to a newcomer. */
function recovered({ detail }) {
  for (const [name, isAll] of Object.entries(detail)) rooms.get(name.replace(/^said:/, ""))?.returns(isAll);
}

function became({ detail }) {
  connection = { ...detail, retryAt: Date.now() + detail.delay };
  if (connection.state !== "open") {
    me.worker = "";
    for (const room of rooms.values()) {
      room.leaves();
      for (const entry of room.unsent) unconfirmed(room, entry);
    }
  }
  draw();
}

/** Whether a message that comes is here already. Where older ones are gone, that is said before it. */
function isKnown(room, position) {
  if (!position) return false; // of a program that spoke to a room without a history
  const { isKnown, lacks } = room.meets(position);
  if (lacks) event(room, GONE);
  return isKnown;
}

/** Something to read. It is unread when nobody can have seen it. */
function news(room, entry) {
  const isOld = !room.joined && !room.isReturning; // said before we came here for the first time
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

const leaving = new Map(); // "room name" → {room, name, sid, timer}

/** Tell who has come and gone by a change: by name, as somebody may be here in several tabs. */
function changed(room, change) {
  const { met } = room;
  const before = new Map([...room.people].map(([sid, { name }]) => [name, sid]));
  if (!change()) join(room); // it tells everything anew
  room.people.delete(me.sid);
  for (const { worker } of room.people.values()) workers.heard(worker);
  if (!met) return;
  for (const [name, sid] of before) if (!room.hasName(name)) left(room, name, sid);
  for (const [sid, { name }] of room.people) if (!before.has(name)) came(room, name, sid), before.set(name, sid);
}

function came(room, name, sid) {
  const back = [...leaving].find(([, gone]) => gone.room === room && (gone.name === name || gone.sid === sid));
  if (!back) return event(room, `${name} came in`);
  const [key, gone] = back;
  clearTimeout(gone.timer);
  leaving.delete(key);
  if (gone.name !== name) event(room, `${gone.name} is now ${name}`);
}

function left(room, name, sid) {
  const key = JSON.stringify([room.name, name]);
  const said = () => {
    leaving.delete(key);
    event(room, `${name} left`);
    draw();
  };
  clearTimeout(leaving.get(key)?.timer);
  leaving.set(key, { room, name, sid, timer: setTimeout(said, LEFT_FOR_GOOD) });
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
  room.unsent.push(entry);
  if (room === current) thread.add(entry, { unsent: true });
  client.send({ type: "say", room: room.name, text, ref: entry.ref }).catch(() => unconfirmed(room, entry));
  setTimeout(() => room.unsent.includes(entry) && unconfirmed(room, entry), CONFIRMED_WITHIN);
}

/** What is not worth telling later is lost without a connection. */
function tell(message) {
  client?.send(message).catch(() => {});
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
  return connection.state === "open" && Boolean(current?.joined);
}

const composer = $("composer");
let typedAt = 0;

$("composer-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const text = composer.value.trim();
  if (!text || !canSend()) return;
  say(current, text);
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
    tell({ type: "typing", room: current.name });
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
  client.reconnect();
  composer.focus();
};
$("retry").onclick = () => client.reconnect();
$("reconnect").onclick = () => {
  closePanels();
  client.reconnect();
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
  else {
    for (const room of rooms.values()) room.version = null; // we leave and join, and are told anew
    tell({ type: "rename", name });
  }
  draw();
});

nameDialog.addEventListener("cancel", (pressed) => me.name || pressed.preventDefault());
$("rename").onclick = askName;

function begin() {
  for (const name of visited.all()) visit(name);
  client = connect(() => `ws?name=${encodeURIComponent(me.name)}`, { storage: forReload(() => [...rooms.values()]) });
  client.addEventListener("message", heard);
  client.addEventListener("recovered", recovered);
  client.addEventListener("state", became);
  became({ detail: { state: client.state } });
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
function spokenText() {
  if (connection.state === "waiting") return navigator.onLine ? "Connection lost, reconnecting" : "Offline";
  return connection.state === "open" ? "Connected" : "";
}

function statusText() {
  const seconds = Math.max(1, Math.ceil((connection.retryAt - Date.now()) / 1000));
  return {
    connecting: "Connecting…",
    open: "Connected",
    waiting: navigator.onLine ? `Reconnecting in ${seconds} s` : `Offline, retry in ${seconds} s`,
    closed: "Disconnected",
  }[connection.state];
}

function typingText(typists) {
  if (typists.length === 0) return "";
  if (typists.length > 3) return "Several people are typing…";
  return `${new Intl.ListFormat("en").format(typists)} ${typists.length === 1 ? "is" : "are"} typing…`;
}

function noteText() {
  const left = composer.maxLength - composer.value.length;
  if (connection.state === "closed") return "You are disconnected. What you write stays here.";
  if (connection.state !== "open") return "Not connected. What you write stays here, and is not sent until you send it.";
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
  put("status-spoken", spokenText());
  $("status").title = connection.reason ?? "";
  $("retry").hidden = state !== "waiting";
  $("ended").hidden = state !== "closed";
  put("ended-reason", state === "closed" ? `${connection.reason || `The server has closed the connection (${connection.code})`}.` : "");
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
  $("aside").toggleAttribute("data-cut-off", state !== "open");
  put("people-count", people.length);
  put("people-count-small", people.length);
  fill($("worker-list"), workers.all.map((worker) => workerElement(worker, people)));

  $("empty").hidden = current.entries.length + current.unsent.length > 0;
  put("typing", typingText(current.typing));
  put("back", current.back);
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
