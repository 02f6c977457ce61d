import type { Asked, Client, ClientEventMap, Listener, Options } from "./client.js";

export interface ChannelEventMap extends ClientEventMap {
  /** Another backend goes on with it: the endpoint runs from its beginning. */
  reopened: CustomEvent<null>;
}

/** What `connect` gives, over the connection of a `Gateway`. */
export interface Channel extends Client {
  addEventListener<K extends keyof ChannelEventMap>(
    type: K,
    listener: Listener<ChannelEventMap[K]>,
    options?: boolean | { capture?: boolean; once?: boolean; passive?: boolean; signal?: AbortSignal },
  ): void;
  removeEventListener<K extends keyof ChannelEventMap>(
    type: K,
    listener: Listener<ChannelEventMap[K]>,
    options?: boolean | { capture?: boolean },
  ): void;
}

/** One connection with an edge, for several endpoints. It is there as long as a channel needs it. */
export interface Gateway {
  /**
   * Connect to an endpoint, and stay connected. Where a handshake would be refused with a status, the channel ends or
   * comes back as after the close code 4000 plus that.
   *
   * @param path - below that of the edge, with its query; a function is asked before every attempt.
   * @param options - as for `connect`.
   */
  open(path: Asked<string>, options?: Omit<Options, "WebSocket">): Channel;
}

/**
 * Several endpoints over one connection.
 *
 * @param url - where the edge is, absolute or relative to the page.
 */
export function gateway(url: string | URL, options?: Pick<Options, "WebSocket">): Gateway;
