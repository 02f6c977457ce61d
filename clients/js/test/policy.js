// Prints what the client does after each close code, for a test that compares it with the page "Close codes".

import { FakeSocket, client, settled } from "./support.js";

const policy = {};
for (let code = 1000; code < 5000; code++) {
  let isRefreshed = false;
  const it = client({ token: ({ refresh }) => void (isRefreshed = refresh) });
  await settled();
  FakeSocket.last.open().hello().end(code);
  policy[code] = "ends";
  if (it.state !== "closed") {
    it.reconnect();
    await settled();
    policy[code] = isRefreshed ? "new token" : "returns";
  }
  it.close();
}
console.log(JSON.stringify(policy));
