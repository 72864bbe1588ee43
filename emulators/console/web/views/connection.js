// Connected: who, with which root project and service accounts, and where
// Aurora has access.

import {html, useState} from '../lib.js';
import * as api from '../api.js';
import {go, link} from '../router.js';
import {session} from '../session.js';
import {Action, Badge, Copy, Failure, Icon, Loading, Notice, Title, useLoad} from '../ui.js';
import {NEEDS_REAUTH, count, time} from '../words.js';
import {ConnectButton} from './connect.js';

/** Says why an answer was refused, with what to do: consent again, connect, or try again. */
export function Refused({error, again}) {
  if (error.code === 'needs_reauth') {
    return html`<${Notice} tone="warn" live title="Your consent has ended" actions=${html`<${ConnectButton}>Re-authenticate<//>`}><p>${error.message}</p><//>`;
  }
  if (error.code === 'not_found') {
    return html`<${Notice} tone="info" live actions=${html`<a class="button primary" href=${link('connect')}>Connect Google Cloud</a>`}><p>${error.message}</p><//>`;
  }
  return html`<${Failure} error=${error} again=${again} />`;
}

const TABS = [['connection', 'Overview'], ['resources', 'Resources'], ['changes', 'Changes'], ['disconnect', 'Disconnect']];

/** The heading of the views of a connection, with the way to the others. */
export const Tabs = ({now, children}) => html`<${Title} kicker="Google Cloud">${children}<//>
  <nav class="tabs" aria-label="Connection"><ul>${TABS.map(([name, text]) => html`<li><a href=${link(name)} aria-current=${name === now ? 'page' : undefined}>${text}</a></li>`)}</ul></nav>`;

export function Connection() {
  const {data, error, again} = useLoad(api.connection);
  if (error) return html`<${Tabs} now="connection">Your connection<//><${Refused} error=${error} again=${again} />`;
  if (!data) return html`<${Title}>Your connection<//><${Loading} />`;
  if (!data.isConnected) {
    return html`<${Title}>Not connected<//><p class="lead">Google Cloud is not connected for this user.</p>
      <div class="actions"><a class="button primary" href=${link('connect')}>Connect Google Cloud<${Icon} name="arrow" /></a><a class="button" href=${link('changes')}>See past changes</a></div>`;
  }
  return html`<${Tabs} now="connection">Your connection<//>
    ${data.needsReauth && html`<${Notice} tone="warn" title="Your consent has ended" actions=${html`<${ConnectButton}>Re-authenticate<//>`}>
      <p>${NEEDS_REAUTH}</p><p>It was taken back, has expired, or your administrator ends it after a while. What was set up still stands.</p><//>`}
    <div class="columns">
      <section class="card"><h2>Google account</h2>
        <p class="account"><span class="avatar" aria-hidden="true">${(data.name || data.email || '?')[0].toUpperCase()}</span><span>${data.name && html`<b>${data.name}</b><br />`}${data.email}</span>
          ${data.needsReauth ? html`<${Badge} tone="warn">Consent ended<//>` : html`<${Badge} tone="ok">Connected<//>`}</p>
        <dl class="pairs"><div><dt>Since</dt><dd>${time(data.connected_at)}</dd></div>
          <div><dt>Allowed</dt><dd>${data.granted_scopes.map(scope => html`<code class="block">${scope.replace('https://www.googleapis.com/auth/', '')}</code>`)}</dd></div></dl>
        <div class="actions"><a class="button" href=${link('projects')}>Set up more projects</a>${session.task && html`<a class="button" href=${link('setup', session.task)}>Last setup</a>`}</div>
      </section>
      ${!data.needsReauth && html`<${Roots} />`}
    </div>
    ${!data.needsReauth && html`<${Access} />`}`;
}

/** The root project with the two service accounts, and its change. */
function Roots() {
  const {data, error, again} = useLoad(api.rootProject);
  // Those that it can be: the connection's own.
  const summary = useLoad(api.resourceSummary);
  const [choice, choose] = useState('');
  const [failure, fail] = useState(null);
  if (error) return html`<section class="card"><h2>Root project</h2><${Failure} error=${error} again=${again} /></section>`;
  if (!data) return html`<section class="card"><h2>Root project</h2><${Loading} /></section>`;
  const {root_project: root, service_accounts: accounts} = data;
  if (!root) return html`<section class="card"><h2>Root project</h2><p class="muted">None yet: it is chosen by the first setup.</p></section>`;
  const others = (summary.data?.projects ?? []).map(project => project.projectId).filter(id => id !== root).sort();
  const move = async () => {
    fail(null);
    try {
      go('setup', (await api.chooseRootProject(choice)).task_id);
    } catch (problem) {
      fail(problem);
    }
  };
  return html`<section class="card"><h2>Root project</h2>
    <p><code class="strong">${root}</code> holds the two service accounts that Aurora acts as.</p>
    <dl class="pairs"><div><dt>Manages</dt><dd><${Copy} text=${accounts.full_access_sa} /></dd></div><div><dt>Only reads</dt><dd><${Copy} text=${accounts.read_only_sa} /></dd></div></dl>
    ${others.length > 0 && html`<div class="field-row"><label for="root">Move to</label>
      <select id="root" value=${choice} onChange=${event => choose(event.target.value)}><option value="">Choose a project</option>${others.map(id => html`<option value=${id}>${id}</option>`)}</select>
      <${Action} act=${move} disabled=${!choice}>Move<//></div>
      <p class="muted small">Moving makes two accounts there, gives them the roles and takes those of the old ones back.</p>`}
    <${Failure} error=${failure} />
  </section>`;
}

/** Where Aurora's accounts have access, as Google has it, with a switch for each project. */
function Access() {
  const {data, error, again, set} = useLoad(api.access);
  const [busy, setBusy] = useState(null); // the ID of the project that is being changed
  const [outcome, setOutcome] = useState(null);
  const toggle = async id => {
    if (busy) return;
    const wanted = data.projects.map(project => project.projectId === id ? {...project, enabled: !project.enabled} : project);
    const before = data;
    setBusy(id);
    setOutcome(null);
    set({...data, projects: wanted});
    try {
      const answer = await api.setAccess(wanted);
      // Each project answers for itself; what did not hold is as it was.
      const failed = (answer.projects ?? []).filter(project => !project.success);
      if (failed.length) set({...data, projects: wanted.map(project => failed.some(f => f.projectId === project.projectId) ? before.projects.find(p => p.projectId === project.projectId) : project)});
      setOutcome(failed.length ? {errors: failed} : {text: `Access to ${id} is ${wanted.find(project => project.projectId === id).enabled ? 'on' : 'off'}.`});
    } catch (problem) {
      set(before);
      setOutcome({problem});
    }
    setBusy(null);
  };
  return html`<section class="card"><h2>Access by project</h2>
    <p class="muted">Switched off, both accounts lose every role in that project at once. It can be switched on again.</p>
    ${error && html`<${Refused} error=${error} again=${again} />`}
    ${!data && !error && html`<${Loading}>Asking Google<//>`}
    ${data?.projects.length === 0 && html`<p class="empty">No project is set up yet. <a href=${link('projects')}>Choose projects</a>.</p>`}
    <ul class="switches">${data?.projects.map(project => html`<${Switch} key=${project.projectId} project=${project} busy=${busy === project.projectId} toggle=${toggle} />`)}</ul>
    <p role="status" class="muted">${busy ? `Changing ${busy}…` : outcome?.text ?? (data?.projects.length > 0 && `Aurora has access to ${count(data.projects.filter(project => project.enabled).length, 'project')}.`)}</p>
    ${outcome?.problem && html`<${Failure} error=${outcome.problem} />`}
    ${outcome?.errors && html`<${Notice} tone="danger" live>${outcome.errors.map(({projectId, error}) => html`<p><b>${projectId}</b>: ${error}</p>`)}<//>`}
  </section>`;
}

function Switch({project: {projectId: id, name, enabled, hasPermission, isRootProject}, busy, toggle}) {
  const why = hasPermission ? undefined : 'why-' + id;
  return html`<li>
    <span class="choice-name"><b>${name || id}</b><code>${id}</code></span>
    <span class="choice-hints">${isRootProject && html`<${Badge} tone="info">Root project<//>`}
      ${!hasPermission && html`<span id=${why}><${Badge} tone="warn" title="You may not change who has access to this project.">Not yours to change<//></span>`}</span>
    <button type="button" class="switch" role="switch" aria-checked=${enabled} aria-label=${'Access to ' + id} aria-describedby=${why}
      aria-busy=${busy || undefined} disabled=${!hasPermission} onClick=${() => toggle(id)}><span></span></button>
  </li>`;
}
