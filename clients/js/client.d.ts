/** What can be sent: text, bytes, and all else as JSON. A `Blob` has to be read before: `await blob.arrayBuffer()`. */
export type Message = string | ArrayBuffer | ArrayBufferView | object | number | boolean | null;

/** Asked anew before every attempt to connect, where it is a function. */
export type Asked<T> = T | ((about: { refresh: boolean }) => T | Promise<T>);

/** What messages may wait for while there is no connection. */
export interface BufferLimits {
  /** How many of them. Default 100. */
  messages?: number;
  /** How long all of them may be, in bytes. Default 65,536. */
  bytes?: number;
  /** How long each of them may wait, in milliseconds, or `Infinity`. Default 30,000. */
  age?: number;
}

export interface Options {
  /**
   * The query parameter `token` of every attempt. A function, like that of the URL or the subprotocols, is asked with
   * `refresh` true once the server has closed with 4401; if it does so again, it is over. Where none of them is a
   * function, it is over at once.
   */
  token?: Asked<string | null | undefined>;
  /** The subprotocols to offer, as for `WebSocket`. */
  protocols?: Asked<string | string[] | undefined>;
  /** Keep what is sent while there is no connection, `{}` for the default limits. Left out: it is rejected. */
  buffer?: BufferLimits;
  /**
   * Where positions survive a reload of the page: `sessionStorage`. Left out: nowhere. They are there only while the
   * page is hidden or left, or this client closed; the next client with the same `key` goes on from them.
   */
  storage?: {
    getItem(key: string): string | null;
    setItem(key: string, value: string): void;
    removeItem(key: string): void;
  };
  /** The name of this client in the storage. Left out: its URL. Give one if that is a function, or changes. */
  key?: string;
  /** For environments that have none, or another. */
  WebSocket?: new (url: URL, protocols: string | string[]) => unknown;
}

export type State = "connecting" | "open" | "waiting" | "closed";

/** What became of the connection, and when there will be another. */
export interface StateDetail {
  state: State;
  /** The close code, for `waiting` and `closed`; 1006 where the connection was lost, or there was none. */
  code?: number;
  reason?: string;
  /** Milliseconds to the next attempt, for `waiting`; `Infinity` as long as the page is not shown. */
  delay?: number;
}

export interface ClientEventMap {
  /**
   * `data` is a string or an `ArrayBuffer`; `lastEventId` its position, in a room with a history. It counts as read
   * when the listeners have returned, also if one of them threw: it does not come again.
   */
  message: Omit<MessageEvent, "data"> & { readonly data: string | ArrayBuffer };
  state: CustomEvent<StateDetail>;
  /** A room, and whether all that was missed in it follows. False: read it again from wherever you have it. */
  recovered: CustomEvent<Record<string, boolean>>;
}

export type Listener<E> = ((this: Client, event: E) => unknown) | { handleEvent(event: E): unknown } | null;

/** A WebSocket that comes back, and gets what was said meanwhile in the rooms that remember. */
export interface Client extends EventTarget {
  readonly state: State;
  /**
   * Send a message. Resolves when it has left; whether it arrived is not known, and it is never sent again. Rejected if
   * there is no connection, or if there is none before the limits of `buffer` are reached.
   */
  send(message: Message): Promise<void>;
  /** Close it for good. The code is 1000, or from 3000 to 4999. */
  close(code?: number, reason?: string): void;
  /** Connect now: at once while it waits, anew if it is open or closed. */
  reconnect(): void;
  addEventListener<K extends keyof ClientEventMap>(
    type: K,
    listener: Listener<ClientEventMap[K]>,
    options?: boolean | { capture?: boolean; once?: boolean; passive?: boolean; signal?: AbortSignal },
  ): void;
  removeEventListener<K extends keyof ClientEventMap>(
    type: K,
    listener: Listener<ClientEventMap[K]>,
    options?: boolean | { capture?: boolean },
  ): void;
}

/**
 * Connect, and stay connected.
 *
 * @param url - of an endpoint, absolute or relative to the page; a function is asked before every attempt.
 */
export function connect(url: Asked<string | URL>, options?: Options): Client;
