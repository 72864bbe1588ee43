// The developers' panel. It is there only on the local stack, which serves the
// emulated Google's administration under /dev/ of its own origin: elsewhere
// nothing answers there, and nothing of this shows.

import {html, useEffect, useRef, useState} from './lib.js';
import {ApiError} from './api.js';
import * as api from './api.js';
import {session} from './session.js';
import {Action, Failure, Icon, Loading, useLoad} from './ui.js';
import {count, number} from './words.js';

async function dev(method, path, body) {
  const response = await fetch('/dev/' + path, {method, body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body), headers: body === undefined ? {} : {'Content-Type': 'application/json'}});
  const answer = await response.json();
  if (!response.ok) throw new ApiError({status: response.status, code: 'dev', message: answer.error});
  return answer;
}

/** Whether this is a local stack. */
export const panelThere = () => fetch('/dev/scenarios', {method: 'HEAD'}).then(response => response.ok, () => false);

export function Panel({user, actAs, close}) {
  const heading = useRef();
  useEffect(() => heading.current.focus(), []);
  const keys = event => { if (event.key === 'Escape') close(); };
  return html`<aside id="panel" class="panel" aria-labelledby="panel-title" onKeyDown=${keys}>
    <header><h2 id="panel-title" tabindex="-1" ref=${heading}>Developers</h2><button type="button" class="quiet icon-only" onClick=${close} aria-label="Close the panel"><${Icon} name="cross" /></button></header>
    <p class="muted small">The emulated Google of this local stack. None of this exists elsewhere.</p>
    <${ActAs} key=${user} user=${user} actAs=${actAs} />
    <${Scenario} actAs=${() => actAs(user)} />
    <${Calls} />
    <${Times} />
    <${Faults} />
  </aside>`;
}

/** Says that something was done; a new object each time, so that the same words are said again. */
const Said = ({text, error}) => html`<p role="status" class="small">${text}</p><${Failure} error=${error} />`;

function useSaid() {
  const [said, set] = useState({});
  const run = async (act, text) => {
    set({});
    try {
      await act();
      set({text});
    } catch (error) {
      set({error});
    }
  };
  return [html`<${Said} ...${said} />`, run];
}

function ActAs({user, actAs}) {
  const [id, set] = useState(user);
  return html`<section><h3>Acting as</h3>
    <form class="field-row" onSubmit=${event => { event.preventDefault(); actAs(id.trim()); }}>
      <label class="visually-hidden" for="act-as">User ID</label>
      <input id="act-as" value=${id} required pattern="\\s*[!-~]+([ -~]*[!-~])?\\s*" maxlength="256" autocomplete="off" spellcheck=${false} onInput=${event => set(event.target.value)} />
      <button type="submit" disabled=${!id.trim() || id.trim() === user}>Switch</button>
    </form>
    <p class="muted small">The header <code>X-User-ID</code>, which AUTH=local believes.</p></section>`;
}

function Scenario({actAs}) {
  const {data, error} = useLoad(() => Promise.all([dev('GET', 'scenarios'), dev('GET', 'admin/scenario')]));
  const [choice, choose] = useState('');
  const [said, run] = useSaid();
  const [{scenarios}, played] = data ?? [{scenarios: []}];
  const chosen = scenarios.find(scenario => choice ? scenario.name === choice : scenario.description === played?.description) ?? scenarios[0];
  const name = chosen?.name;
  const load = () => run(async () => {
    await api.disconnect().catch(() => {}); // the tokens are another Google's after this
    await dev('PUT', 'admin/scenario', JSON.stringify(await dev('GET', 'scenarios/' + name)));
    session.task = null;
    actAs();
  }, 'Loaded: Google begins anew, and you are disconnected.');
  return html`<section><h3>Scenario</h3>
    ${error && html`<${Failure} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data && html`<div class="field-row"><label class="visually-hidden" for="scenario">Scenario</label>
      <select id="scenario" value=${name} onChange=${event => choose(event.target.value)}>${scenarios.map(scenario => html`<option value=${scenario.name}>${scenario.name.replaceAll('-', ' ')}</option>`)}</select>
      <${Action} act=${load}>Load<//></div>
      <p class="muted small">${chosen.description}</p>`}
    ${said}</section>`;
}

const SPEEDS = {
  real: {latencies: {read: '80ms', iamWrite: '250ms', createAccount: '500ms', batchEnable: '250ms', oauth: '80ms', operation: '15s'}, propagation: {project: '60s', account: '60s'}},
  slow: {latencies: {read: '1s', iamWrite: '2s', createAccount: '3s', batchEnable: '2s', oauth: '500ms', operation: '45s'}, propagation: {project: '180s', account: '180s'}},
  none: {latencies: {read: '0s', iamWrite: '0s', createAccount: '0s', batchEnable: '0s', oauth: '0s', operation: '0s'}, propagation: {project: '0s', account: '0s'}},
};
const TIMES = [['latencies', 'read', 'A read'], ['latencies', 'iamWrite', 'A change of access'], ['latencies', 'operation', 'Enabling APIs'], ['propagation', 'project', 'Until access is in force']];

function Times() {
  const {data, error, set} = useLoad(() => dev('GET', 'admin/scenario').then(({latencies = {}, propagation = {}}) => ({latencies, propagation})));
  const [said, run] = useSaid();
  const change = times => run(async () => set(await dev('PUT', 'admin/latencies', times)), 'Changed, for calls from now on.');
  if (!data) return html`<section><h3>Times</h3>${error ? html`<${Failure} error=${error} />` : html`<${Loading} />`}</section>`;
  const submit = event => {
    event.preventDefault();
    const times = {latencies: {}, propagation: {}};
    for (const [group, field] of TIMES) times[group][field] = event.target.elements[field].value.trim() || '0s';
    times.propagation.account = times.propagation.project;
    return change(times);
  };
  return html`<section><h3>Times</h3>
    <div class="button-group"><button type="button" onClick=${() => change(SPEEDS.real)}>As Google’s</button><button type="button" onClick=${() => change(SPEEDS.slow)}>Slow</button><button type="button" onClick=${() => change(SPEEDS.none)}>None</button></div>
    <form onSubmit=${submit}><div class="times">${TIMES.map(([group, field, name]) => html`<label>${name}<input name=${field} value=${data[group]?.[field] ?? '0s'} autocomplete="off" /></label>`)}</div>
      <button type="submit">Apply</button></form>${said}</section>`;
}

const FAULTS = [
  {name: 'Google is away, 10 calls', fault: {code: 503, count: 10, retryAfter: '2s'}},
  {name: 'Quota is used up, 10 calls', fault: {code: 429, count: 10, retryAfter: '5s'}},
  {name: 'Granting access is refused', fault: {method: 'cloudresourcemanager.projects.setIamPolicy', code: 403}},
  {name: 'Enabling APIs is refused', fault: {method: 'serviceusage.services.*nable', code: 403}},
  {name: 'Every read takes 3 s', fault: {delay: '3s'}},
  {name: 'The login fails', fault: {method: 'oauth.token', code: 500, oauthError: 'internal_failure', count: 3}},
];

function Faults() {
  const {data, error, again} = useLoad(() => dev('GET', 'admin/faults'));
  const [project, setProject] = useState('');
  const [said, run] = useSaid();
  const inject = fault => run(async () => { await dev('POST', 'admin/faults', {...fault, ...(project.trim() && {project: project.trim()})}); again(); }, 'Injected.');
  const clear = () => run(async () => { await dev('DELETE', 'admin/faults'); again(); }, 'Cleared.');
  const consents = what => run(async () => {
    const {email} = await api.connection();
    if (!email) throw new ApiError({status: 0, code: 'dev', message: 'Nobody is connected.'});
    await dev('POST', `admin/users/${encodeURIComponent(email)}/${what}`);
  }, 'Done: the next call in the user’s name finds out.');
  const custom = event => {
    event.preventDefault();
    const {method, code, count: n, delay} = event.target.elements;
    const fault = {};
    if (method.value.trim()) fault.method = method.value.trim();
    if (Number(code.value)) fault.code = Number(code.value);
    if (Number(n.value)) fault.count = Number(n.value);
    if (delay.value.trim()) fault.delay = delay.value.trim();
    return inject(fault);
  };
  const faults = data?.faults ?? [];
  return html`<section><h3>Faults</h3>
    <div class="field-row"><label for="fault-project">Only in project</label><input id="fault-project" value=${project} placeholder="all" autocomplete="off" spellcheck=${false} onInput=${event => setProject(event.target.value)} /></div>
    <ul class="buttons">${FAULTS.map(({name, fault}) => html`<li><button type="button" onClick=${() => inject(fault)}>${name}</button></li>`)}
      <li><button type="button" onClick=${() => consents('revoke')}>The user takes the consent back</button></li>
      <li><button type="button" onClick=${() => consents('rapt')}>The Workspace session ends</button></li></ul>
    <details><summary>Another one</summary><form onSubmit=${custom} class="times">
      <label>Method<input name="method" placeholder="iam.*" autocomplete="off" /></label><label>HTTP code<input name="code" inputmode="numeric" placeholder="503" autocomplete="off" /></label>
      <label>Calls<input name="count" inputmode="numeric" placeholder="all" autocomplete="off" /></label><label>Delay<input name="delay" placeholder="2s" autocomplete="off" /></label>
      <button type="submit">Inject</button></form></details>
    <${Failure} error=${error} />
    ${faults.length > 0 && html`<ul class="faults">${faults.map(fault => html`<li><code>${JSON.stringify(fault)}</code></li>`)}</ul>`}
    <button type="button" disabled=${faults.length === 0} onClick=${clear}>Clear ${count(faults.length, 'fault')}</button>${said}</section>`;
}

const KEPT = 200;

/** Calls to Google as they come: the panel asks for those after the last one it knows. */
function Calls() {
  const [{calls, total}, set] = useState({calls: [], total: 0});
  const [error, fail] = useState(null);
  useEffect(() => {
    let timer, here = true, seen = -1;
    const ask = async () => {
      try {
        if (seen < 0) seen = Math.max(0, (await dev('GET', 'admin/calls')).total - KEPT);
        const answer = await dev('GET', 'admin/calls?detail=true&skip=' + seen);
        if (!here) return;
        if (answer.total < seen) { // Google began anew
          seen = 0;
          set({calls: [], total: 0});
        } else if (answer.calls.length || seen === 0) {
          seen = answer.total;
          set(now => ({calls: [...answer.calls.toReversed(), ...now.calls].slice(0, KEPT), total: answer.total}));
        }
        fail(null);
      } catch (problem) {
        if (here) fail(problem);
      }
      if (here) timer = setTimeout(ask, document.hidden ? 10000 : 1000);
    };
    ask();
    return () => { here = false; clearTimeout(timer); };
  }, []);
  return html`<section><h3>Calls to Google <span class="muted">${number(total)}</span></h3>
    <${Failure} error=${error} />
    ${calls.length === 0 ? html`<p class="muted small">None yet.</p>` : html`<ol class="calls" tabindex="0" aria-label="Calls to Google, the newest first">${calls.map((call, i) => html`<li key=${total - i} class=${call.status === 0 || call.status >= 400 ? 'bad' : ''}>
      <span class="call-status">${call.status || 'reset'}</span><span class="call-method">${call.method}${call.fault && html` <b>fault</b>`}</span><span class="call-about">${call.project || ''}</span><span class="call-took">${Math.round(call.duration / 1e6)} ms</span></li>`)}</ol>`}</section>`;
}
