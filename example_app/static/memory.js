// What the page remembers. A tab's own session: its name, rooms, messages and admin's token. The browser: the last name, the theme.

const PREFIX = "interchange.";

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

/** The rooms as they were before a reload. */
export const before = () => read(session, "reload", {}).rooms ?? [];

/**
 * Where the client keeps its positions for a reload. The rooms are in the same item: so what was said before a position is on
 * the page whenever the client goes on from there, and what was said behind it never is.
 */
export const forReload = (rooms) => ({
  getItem: () => read(session, "reload", {}).positions ?? null,
  setItem: (_, positions) => write(session, "reload", { positions, rooms: rooms() }),
  removeItem: () => session().removeItem(`${PREFIX}reload`),
});

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
