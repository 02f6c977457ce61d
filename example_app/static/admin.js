// The admin's token, and what can be done with it. Whether it is right is for the server to say, every time: admin.py.

import { adminToken } from "./memory.js";

export class Admin {
  wanted = new URLSearchParams(location.search).has("admin");
  signedIn = false;
  #token = adminToken.kept();

  get hasToken() {
    return this.#token !== "";
  }

  /** Throws what the server has against it. */
  async signIn(token = this.#token) {
    this.#token = token;
    await this.#ask("GET", "admin");
    this.signedIn = true;
    adminToken.keep(token);
  }

  signOut() {
    this.#token = "";
    this.signedIn = this.wanted = false;
    adminToken.keep("");
    history.replaceState(null, "", location.pathname + location.hash);
  }

  async disconnect(sid) {
    await this.#ask("POST", `admin/disconnect/${encodeURIComponent(sid)}`);
  }

  async #ask(method, route) {
    const answer = await fetch(route, { method, headers: { Authorization: `Bearer ${this.#token}` } });
    if (answer.ok) return;
    const { detail } = await answer.json().catch(() => ({}));
    throw new Error(typeof detail === "string" ? detail : `The server answered ${answer.status}`);
  }
}
