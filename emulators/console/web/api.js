// The HTTP contract of the connector, one function for each route: what a
// frontend calls, and nothing else in this console calls fetch for it.
//
// Answers are the functions' JSON as it comes. Everything that went wrong is an
// ApiError whose message can be shown to people as it is.

import {session} from './session.js';

export class ApiError extends Error {
  /** @param {{status: number, code: string, message: string, retryAfter?: number}} what */
  constructor({status, code, message, retryAfter = 0}) {
    super(message);
    this.status = status; // 0: nothing was answered
    this.code = code; // stable: invalid_argument, needs_reauth, not_found, conflict, unavailable...
    this.retryAfter = retryAfter; // seconds that the server asks to be left alone; 0: unsaid
  }

  /** Whether the same request may work later. */
  get passing() { return this.status === 0 || this.status === 429 || this.status >= 500; }
}

/** How far this machine's clock is behind the server's, in milliseconds. */
export let clockSkew = 0;

async function call(method, path, body, signal) {
  // Who asks. A deployment sends a token in Authorization instead, or has its
  // own backend call.
  const headers = {'X-User-ID': session.user};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response, answer;
  try {
    response = await fetch(path, {method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal});
    answer = await response.json();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError({status: response?.ok ? 0 : response?.status ?? 0, code: 'unavailable', message: 'Aurora cannot be reached. Check your connection; this page tries again.'});
  }
  const skew = Date.parse(response.headers.get('Date')) - Date.now();
  clockSkew = Math.abs(skew) > 5000 ? skew : 0; // the header has whole seconds: less is no difference
  if (response.ok) return answer;
  throw new ApiError({
    status: response.status, code: answer.code ?? 'internal', message: answer.error ?? 'Something went wrong.',
    retryAfter: Number(response.headers.get('Retry-After')) || 0,
  });
}

const get = (path, query = {}, signal) => {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== '' && value !== null);
  return call('GET', given.length ? `${path}?${new URLSearchParams(given)}` : path, undefined, signal);
};
const post = (path, body) => call('POST', path, body);

// Connecting

/** Begins a login. The browser then goes to login_url, and comes back to the front page with ?login=. */
export const login = () => post('/login', {});
/** Confirms the login that came back with login=gcp_confirm; answers the setup's task_id. */
export const confirm = task => post('/gcp/setup/confirm', {task_id: task});
/** Who is connected: isConnected, email, name, needsReauth, granted_scopes, connected_at. */
export const connection = () => get('/api/gcp/connection');
/** Disconnects at once, or with {cleanup: true} after undoing what setups changed (then there is a task_id). */
export const disconnect = (options = {}) => post('/api/gcp/force-disconnect', options);

// Setups

/** Where a setup or a cleanup stands, with steps, projects, warnings and counts of changes. */
export const status = (task, signal) => get(`/gcp/setup/status/${encodeURIComponent(task)}`, {view: 'detail'}, signal);
/** What a setup of these projects would change; nothing is changed. */
export const plan = projects => post('/gcp/setup/plan', projects && {selected_project_ids: projects});
/** Sets up these projects; without any, those that did not succeed last time. */
export const setUp = projects => post('/gcp/post-auth-retry', projects && {selected_project_ids: projects});

// The connection

/** The projects that the connected account sees at Google. */
export const projects = () => get('/api/gcp/projects');
export const rootProject = () => get('/api/gcp/root-project');
/** Moves the service accounts' work to another project; answers a task_id. */
export const chooseRootProject = id => post('/api/gcp/root-project', {project_id: id});
/** Where Aurora's accounts have access, as Google has it now. */
export const access = () => get('/api/gcp/sa-project-access');
/** Gives and takes access; always the whole list. success is false when a change did not hold: see projects. */
export const setAccess = list => post('/api/gcp/sa-project-access', {projects: list.map(({projectId, enabled}) => ({projectId, enabled}))});

// What was found, and what was changed

export const resourceSummary = () => get('/api/gcp/resources/summary');
/** A page of resources: {project, type, page_token, page_size}. */
export const resources = query => get('/api/gcp/resources', query);
export const discover = () => post('/api/gcp/discover');
/** A page of the ledger, newest first: {project, task_id, state, page_token, page_size}. */
export const changes = query => get('/api/gcp/changes', query);

/**
 * All pages of a list, up to a bound: calls see with what there is so far
 * after each page, and returns it.
 */
export async function pages(list, query, field, {most = 10000, see = () => {}} = {}) {
  let items = [], token;
  do {
    const page = await list({...query, page_size: 1000, page_token: token});
    items = items.concat(page[field]);
    token = page.next_page_token;
    see(items, Boolean(token));
  } while (token && items.length < most);
  return items;
}
