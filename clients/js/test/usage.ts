// What a user may write, and may not. Checked by hand, as TypeScript is not on PyPI:
//
//     npm exec --yes --package typescript@5 -- tsc --noEmit --strict --exactOptionalPropertyTypes --target es2022 \
//         --module nodenext --lib es2022,dom,dom.iterable clients/js/test/usage.ts

import {
  connect,
  type Asked,
  type BufferLimits,
  type Client,
  type ClientEventMap,
  type Message,
  type Options,
  type State,
  type StateDetail,
} from "fastapi-rooms-client";
import { gateway, type Channel, type Gateway } from "fastapi-rooms-client/gateway";

export type All = [Asked<string>, BufferLimits, ClientEventMap, StateDetail];

interface Said {
  text: string;
}

// Connecting.

const options: Options = {
  token: async ({ refresh }) => (refresh ? "another" : null),
  buffer: {},
  storage: sessionStorage,
  key: "tea",
  WebSocket,
};
const chat: Client = connect("/chat", options);
connect(new URL("wss://example.org/"));
connect(() => "/chat");
connect(async ({ refresh }) => new URL(`wss://example.org/${refresh}`), { protocols: ["tea"] });
connect("/chat", { token: () => undefined, protocols: "tea", buffer: { age: Infinity } });
// @ts-expect-error -- no URL
connect();
// @ts-expect-error -- no such option
connect("/chat", { tokn: "x" });

// Events.

chat.addEventListener("message", ({ data, lastEventId }) => {
  const message: string | ArrayBuffer = data;
  const position: string = lastEventId;
  return [message, position];
});
chat.addEventListener("message", (event: MessageEvent) => event.origin);
chat.addEventListener("message", { handleEvent: (event) => event.data });
chat.addEventListener("state", ({ detail }) => {
  const state: State = detail.state;
  const delay: number | undefined = detail.delay;
  return [state, delay];
});
chat.addEventListener("state", (event: Event) => event.type, { signal: new AbortController().signal });
chat.addEventListener(
  "recovered",
  function ({ detail }) {
    const rooms: [string, boolean][] = Object.entries(detail);
    if (rooms.length) this.close();
  },
  { once: true },
);
// @ts-expect-error -- no such member
chat.addEventListener("state", ({ detail }) => detail.stat);

// Sending.

const said: Said = { text: "hi" };
const sent: Promise<void> = chat.send(said);
const messages: Message[] = ["hi", 1, null, true, new ArrayBuffer(1), new Uint8Array(1), [1]];
for (const message of messages) await chat.send(message);
await sent;
// @ts-expect-error -- nothing
chat.send();
// @ts-expect-error -- nothing either
chat.send(undefined);

// All else.

chat.close();
chat.close(4000, "bye");
chat.reconnect();
export const target: EventTarget = chat;
// @ts-expect-error -- it is read only
chat.state = "open";

// Over one connection.

const edge: Gateway = gateway("/", { WebSocket });
const tea: Channel = edge.open("/chat/tea", { token: () => "x", buffer: {} });
export const asClient: Client = edge.open(async ({ refresh }) => `/chat/${refresh}`);
tea.addEventListener("reopened", (event: CustomEvent<null>) => event.type);
tea.addEventListener("message", ({ data, lastEventId }) => [data, lastEventId]);
// @ts-expect-error -- that is the edge's
edge.open("/chat", { WebSocket });
