// An OpenID provider and authorization server for tests: npm oidc-provider with pages of our own, on loopback.
// Everything it is to do stands as JSON in OIDC_PROVIDER (see oidc_provider.py). Prints its issuer when it answers.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const options = JSON.parse(process.env.OIDC_PROVIDER);
const resolve = createRequire(join(options.modules, 'resolve.js')).resolve;
const { default: Provider, errors, interactionPolicy } = await import(pathToFileURL(resolve('oidc-provider')));

const escape = (text) => String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

const page = (title, body) =>
  `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${title}</title></head>` +
  `<body><h1>${title}</h1>${body}</body></html>`;

const loginPage = (complaint) =>
  page(
    'Sign in to Test Directory',
    `${complaint ? `<p role="alert">${complaint}</p>` : ''}<form method="post">
      <label>Account name <input name="account" autocomplete="username" required></label>
      <label>Password <input name="password" type="password" autocomplete="current-password" required></label>
      <button name="action" value="login">Sign in</button>
      </form>`,
  );

const consentPage = (client, parameters) =>
  page(
    'Allow access?',
    `<p><b>${escape(client?.clientName ?? parameters.client_id)}</b> asks for
      <code>${escape(parameters.scope ?? 'nothing by name')}</code>
      at <code>${escape(parameters.resource ?? 'this provider')}</code>.</p>
      <form method="post"><button name="action" value="allow">Allow</button>
      <button name="action" value="deny">Deny</button></form>`,
  );

const chooserPage = () =>
  page(
    'Choose an account',
    `<form method="post"><button name="action" value="continue">Continue</button>
      <button name="action" value="another">Another account</button></form>`,
  );

function account(name) {
  const known = options.accounts[name];
  return known && { accountId: known.claims.sub, claims: async () => known.claims };
}

const accountOfSubject = (subject) =>
  Object.keys(options.accounts).find((name) => options.accounts[name].claims.sub === subject);

function configuration() {
  const prompts = interactionPolicy.base();
  prompts.add(new interactionPolicy.Prompt({ name: 'select_account', requestable: true }), 0);
  return {
    clients: options.clients,
    jwks: { keys: options.keys },
    cookies: { keys: ['of a test'] },
    scopes: ['openid', 'offline_access', ...options.resource_scopes],
    claims: {
      openid: ['sub'],
      profile: ['name', 'preferred_username'],
      email: ['email', 'email_verified'],
      groups: ['groups'],
    },
    // Google, Entra and Keycloak put the claims into the ID token, whatever the specification says.
    conformIdTokenClaims: false,
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256'] },
    clientBasedCORS: () => true,
    pkce: { required: () => options.pkce_required },
    rotateRefreshToken: () => options.rotate_refresh_tokens,
    issueRefreshToken: async (_ctx, client, code) =>
      client.grantTypeAllowed('refresh_token') &&
      (!options.refresh_needs_offline_access || code.scopes.has('offline_access')),
    ttl: {
      AccessToken: options.access_token_seconds,
      ClientCredentials: options.access_token_seconds,
      IdToken: options.id_token_seconds,
      RefreshToken: options.refresh_token_seconds,
      Grant: options.refresh_token_seconds,
      Session: 3600,
      Interaction: 600,
    },
    findAccount: async (_ctx, subject) => account(accountOfSubject(subject)),
    interactions: { policy: prompts, url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    renderError: async (ctx, said) => {
      ctx.type = 'html';
      ctx.body = page('Error', `<p>${escape(said.error)}: ${escape(said.error_description ?? '')}</p>`);
    },
    extraTokenClaims: async (_ctx, token) => {
      const known = options.accounts[accountOfSubject(token.accountId)];
      const { sub: _, ...claims } = known?.claims ?? {};
      return { ...claims, ...options.token_claims };
    },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: options.registration },
      registrationManagement: { enabled: options.registration },
      revocation: { enabled: true },
      introspection: { enabled: true, allowedPolicy: async () => true },
      clientCredentials: { enabled: true },
      rpInitiatedLogout: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: async (_ctx, _client, choice) => choice,
        useGrantedResource: async () => true,
        getResourceServerInfo: async (_ctx, resource) => {
          if (options.resources && !options.resources.includes(resource)) throw new errors.InvalidTarget();
          return {
            scope: options.resource_scopes.join(' '),
            audience: resource,
            accessTokenTTL: options.access_token_seconds,
            accessTokenFormat: options.access_token_format,
            ...(options.access_token_format === 'jwt' ? { jwt: { sign: { alg: options.access_token_algorithm } } } : {}),
          };
        },
      },
    },
  };
}

async function formOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return new URLSearchParams(Buffer.concat(chunks).toString());
}

function send(response, status, html) {
  response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' }).end(html);
}

async function grantOf(provider, interaction) {
  const grant = interaction.grantId
    ? await provider.Grant.find(interaction.grantId)
    : new provider.Grant({ accountId: interaction.session.accountId, clientId: interaction.params.client_id });
  const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = interaction.prompt.details;
  if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
  if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
  for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  return grant.save();
}

async function interact(provider, request, response) {
  const interaction = await provider.interactionDetails(request, response);
  const { name } = interaction.prompt;
  if (request.method === 'GET') {
    if (name === 'login') return send(response, 200, loginPage());
    if (name === 'select_account') return send(response, 200, chooserPage());
    return send(response, 200, consentPage(await provider.Client.find(interaction.params.client_id), interaction.params));
  }
  const form = await formOf(request);
  const finish = (result, merge) =>
    provider.interactionFinished(request, response, result, { mergeWithLastSubmission: merge });
  switch (form.get('action')) {
    case 'login': {
      const name = form.get('account');
      if (options.accounts[name]?.password !== form.get('password')) {
        return send(response, 401, loginPage('That account name and password do not belong together.'));
      }
      return finish({ login: { accountId: account(name).accountId }, select_account: {} }, false);
    }
    case 'another':
      return send(response, 200, loginPage());
    case 'continue':
      return finish({ select_account: {} }, false);
    case 'allow':
      return finish({ consent: { grantId: await grantOf(provider, interaction) } }, true);
    default:
      return finish({ error: 'access_denied', error_description: 'The person said no.' }, false);
  }
}

const seen = [];
let answer;
const server = createServer((request, response) => {
  const [path] = request.url.split('?');
  if (path === '/witness/requests') {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(seen));
    return;
  }
  seen.push({ method: request.method, path });
  answer(request, response);
});
await new Promise((done) => server.listen(options.port, '127.0.0.1', done));

const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, configuration());
provider.on('server_error', (_ctx, error) => console.error(error));
const callback = provider.callback();
answer = (request, response) => {
  if (!request.url.startsWith('/interaction/')) return callback(request, response);
  interact(provider, request, response).catch((error) => {
    console.error(error);
    if (!response.headersSent) send(response, 400, page('Error', escape(error.message)));
  });
};
process.stdout.write(`${issuer}\n`);
