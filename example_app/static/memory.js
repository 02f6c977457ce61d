// What the page remembers. A tab's own session: its name, rooms, messages and admin's token. The browser: the last name, the theme.

const PREFIX = "interchange.";
const MESSAGES_KEPT = 200; // per room

function read(storage, key, otherwise) {
  try {
    return JSON.parse(storage().getItem(PREFIX + key)) ?? otherwise;
  } catch {
    return otherwise; // blocked, or not ours
  }
}

function write(storage, key, value) {
  try {
    storage().setItem(PREFIX + key, JSON.stringify(value));
  } catch {
    // Blocked or full: the page goes on with what it has in memory.
  }
}

const session = () => sessionStorage;
const browser = () => localStorage;

export const names = {
  ofThisTab: () => read(session, "name", ""),
  ofThisBrowser: () => read(browser, "name", ""),
  keep(name) {
    write(session, "name", name);
    write(browser, "name", name);
  },
};

export const visited = {
  all: () => read(session, "visited", []),
  keep: (rooms) => write(session, "visited", rooms),
};

export const adminToken = {
  kept: () => read(session, "admin", ""),
  keep: (token) => write(session, "admin", token),
};

export const positions = {
  of: (room) => read(session, `position.${room}`, undefined),
  keep(room, position) {
    history.save(); // first, for it says that they are here
    write(session, `position.${room}`, position);
  },
};

const unsaved = new Map();

export const history = {
  of: (room) => read(session, `history.${room}`, []),
  /** Drop the oldest entries in place, and keep the rest for a reload of this tab. */
  keep(room, entries) {
    entries.splice(0, entries.length - MESSAGES_KEPT);
    if (unsaved.size === 0) setTimeout(history.save, 300);
    unsaved.set(room, entries);
  },
  save() {
    for (const [room, entries] of unsaved) write(session, `history.${room}`, entries);
    unsaved.clear();
  },
};
addEventListener("pagehide", history.save);

/** The theme is kept as bare text: theme.js reads it before any module is loaded. */
export const theme = {
  keep(chosen) {
    try {
      localStorage.setItem(`${PREFIX}theme`, chosen);
    } catch {
      // It lasts until the next load, then.
    }
  },
};
