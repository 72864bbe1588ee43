// Choosing: which projects Aurora may manage. Nothing is set up here; what is
// chosen goes to the plan first.

import {html, useEffect, useMemo, useState} from '../lib.js';
import * as api from '../api.js';
import {go, link} from '../router.js';
import {Badge, Icon, Loading, Title, useLoad} from '../ui.js';
import {count, number} from '../words.js';
import {Refused} from './connection.js';

/** How many projects one setup takes (MAX_SELECTED_PROJECTS). */
export const MOST = 100;

export function Projects({query}) {
  const listed = useLoad(api.projects);
  // The projects that are set up already; that it is not known keeps nobody from choosing.
  const known = useLoad(() => api.resourceSummary().then(summary => new Set(summary.projects.map(project => project.projectId)), () => new Set()));
  if (listed.error) return html`<${Title}>Choose projects<//><${Refused} error=${listed.error} again=${listed.again} />`;
  if (!listed.data || !known.data) return html`<${Title}>Choose projects<//><${Loading}>Asking Google for your projects<//>`;
  return html`<${Choice} projects=${listed.data.projects} message=${listed.data.message} known=${known.data} chosen=${query.get('projects')?.split(',') ?? []} />`;
}

function Choice({projects, message, known, chosen}) {
  const [search, setSearch] = useState('');
  const [selected, set] = useState(() => new Set(chosen.filter(id => projects.some(project => project.projectId === id && project.available))));
  const found = useMemo(() => {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    return projects.filter(({projectId, name}) => words.every(word => `${projectId} ${name}`.toLowerCase().includes(word)));
  }, [projects, search]);
  const available = found.filter(project => project.available);
  // Back from the plan, the choice is still there: it is in the address.
  useEffect(() => history.replaceState(null, '', location.pathname + link('projects', '', selected.size ? {projects: [...selected].join()} : undefined)), [selected]);

  const toggle = id => set(before => {
    const after = new Set(before);
    if (!after.delete(id) && after.size < MOST) after.add(id);
    return after;
  });
  const all = () => set(before => new Set([...before, ...available.map(project => project.projectId)].slice(0, MOST)));
  const none = () => set(before => new Set([...before].filter(id => !found.some(project => project.projectId === id))));
  const full = selected.size >= MOST;
  return html`
    <${Title} kicker="Setup">Choose projects<//>
    <p class="lead">Pick the projects that Aurora may manage. Next you see everything that would change in them, before anything does.</p>
    ${message && html`<p>${message}</p>`}
    <div class="list-tools">
      <label class="search"><span class="visually-hidden">Search projects</span><${Icon} name="search" /><input type="search" placeholder="Search by name or ID" value=${search} onInput=${event => setSearch(event.target.value)} /></label>
      <div class="button-group">
        <button type="button" onClick=${all} disabled=${available.length === 0}>Select all${search && ' found'}</button>
        <button type="button" onClick=${none} disabled=${selected.size === 0}>Select none</button>
      </div>
    </div>
    <p class="muted" role="status">${search ? `${number(found.length)} of ${count(projects.length, 'project')} found` : count(projects.length, 'project')}${projects.length !== available.length && !search && `, ${number(projects.filter(project => project.available).length)} of them with active billing`}</p>
    <ul class="choices">${found.map(project => html`<${Row} key=${project.projectId} project=${project} known=${known.has(project.projectId)}
      checked=${selected.has(project.projectId)} full=${full} toggle=${toggle} />`)}</ul>
    ${found.length === 0 && html`<p class="empty">No project matches.</p>`}
    <div class="sticky-bar">
      <p aria-live="polite"><b>${number(selected.size)}</b> of at most ${MOST} selected${full && '. One setup takes no more; set up the others after it.'}</p>
      <button type="button" class="primary" disabled=${selected.size === 0} onClick=${() => go('plan', '', {projects: [...selected].join()})}>Review changes<${Icon} name="arrow" /></button>
    </div>`;
}

function Row({project: {projectId: id, name, billingEnabled, available, isRootProject}, known, checked, full, toggle}) {
  const disabled = !available || full && !checked;
  return html`<li><label class=${'choice' + (disabled ? ' off' : '')}>
    <input type="checkbox" checked=${checked} disabled=${disabled} onChange=${() => toggle(id)} />
    <span class="choice-name"><b>${name || id}</b><code>${id}</code></span>
    <span class="choice-hints">
      ${!billingEnabled && html`<${Badge} tone="warn">No active billing<//>`}
      ${billingEnabled && !available && html`<${Badge} tone="warn">Not active<//>`}
      ${isRootProject && html`<${Badge} tone="info">Root project<//>`}
      ${known && html`<${Badge} tone="ok">Set up<//>`}
    </span>
  </label></li>`;
}
