// An MCP client on the TypeScript SDK, of either line, that does as it is told on its standard input.
// The arguments and the lines are those of python_client.py, with {"sdk", "modules"} besides.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const target = JSON.parse(process.argv[2]);
const resolve = createRequire(join(target.modules, 'resolve.js')).resolve;
const esModule = (name) =>
  import(pathToFileURL(resolve(name).replace('/dist/cjs/', '/dist/esm/').replace(/\.cjs$/, '.mjs')));

async function sdk() {
  if (target.sdk === 2) return esModule('@modelcontextprotocol/client');
  const parts = ['index', 'streamableHttp', 'auth'].map((name) => esModule(`@modelcontextprotocol/sdk/client/${name}.js`));
  return Object.assign({}, ...(await Promise.all(parts)));
}
const { Client, StreamableHTTPClientTransport, UnauthorizedError } = await sdk();

const say = (words) => process.stdout.write(`${JSON.stringify(words)}\n`);

// The loopback address that the browser comes back to.
let cameBack = () => {};
const callback = createServer((request, response) => {
  const url = new URL(request.url, 'http://127.0.0.1');
  response.writeHead(200, { 'content-type': 'text/plain' }).end('Back in the client.');
  if (url.pathname === '/callback') cameBack(url.searchParams);
});
await new Promise((done) => callback.listen(0, '127.0.0.1', done));
const redirectUrl = `http://127.0.0.1:${callback.address().port}/callback`;

const kept = { ...target.kept };
let answer;
const signIn = {
  redirectUrl,
  clientMetadata: {
    client_name: 'TypeScript SDK',
    redirect_uris: [redirectUrl],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  },
  state: () => `state-${Math.random()}`,
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client; },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { kept.tokens = tokens; },
  invalidateCredentials: (what) => {
    if (what === 'all' || what === 'tokens') delete kept.tokens;
    if (what === 'all' || what === 'client') delete kept.client;
  },
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => { kept.verifier = verifier; },
  redirectToAuthorization: (url) => {
    answer = new Promise((done) => { cameBack = done; });
    say({ open: String(url) });
  },
};

let client, transport;

function fresh() {
  transport = new StreamableHTTPClientTransport(
    new URL(target.url),
    target.headers ? { requestInit: { headers: target.headers } } : { authProvider: signIn },
  );
  client = new Client(
    { name: 'typescript-client', version: '1' },
    target.sdk === 2 ? { versionNegotiation: { mode: 'auto' } } : {},
  );
}

const wantsSignIn = (error) => !target.headers && (error instanceof UnauthorizedError || /unauthorized/i.test(error.message));

// The SDK leaves it to the program to wait for the browser and to try again.
async function afterSignIn() {
  const parameters = await answer;
  if (parameters.has('error')) throw new Error(`answered with ${parameters.get('error')}, iss ${parameters.get('iss')}`);
  await transport.finishAuth(target.sdk === 2 ? parameters : parameters.get('code'));
}

async function connect() {
  await client?.close();
  fresh();
  try {
    await client.connect(transport);
  } catch (error) {
    if (!wantsSignIn(error)) throw error;
    await afterSignIn();
    fresh();
    await client.connect(transport);
  }
  return client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion;
}

async function signedIn(request) {
  try {
    return await request();
  } catch (error) {
    if (!wantsSignIn(error)) throw error;
    await afterSignIn();
    return request();
  }
}

const commands = {
  connect,
  tools: () => signedIn(async () => (await client.listTools()).tools.map((tool) => tool.name)),
  add: (numbers) => commands.call({ tool: 'add', ...numbers }),
  call: ({ tool, ...parameters }) =>
    signedIn(async () => {
      const { content } = await client.callTool({ name: tool, arguments: parameters });
      return content.map((part) => part.text ?? '').join(' ');
    }),
  keep: () => ({ client: kept.client, tokens: kept.tokens }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: command, ...asked } = JSON.parse(line);
  try {
    say({ result: await commands[command](asked) });
  } catch (error) {
    say({ error: `${error.name}: ${error.message}` });
  }
}
process.exit(0);
