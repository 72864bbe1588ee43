// Resources: what was discovered. Counts by type as a chart that is also the
// filter, and the list itself, searchable and in pages.

import {html, useEffect, useMemo, useState} from '../lib.js';
import * as api from '../api.js';
import {INTERVAL} from '../poll.js';
import {Action, Badge, Failure, Icon, Loading, useLoad} from '../ui.js';
import {count, number, time, typeName} from '../words.js';
import {Refused, Tabs} from './connection.js';

const PAGE = 25, BARS = 10;
const DISCOVERY = {pending: {tone: 'idle', text: 'Not yet'}, running: {tone: 'busy', text: 'Under way'}, done: {tone: 'ok', text: 'Done'}, failed: {tone: 'danger', text: 'Failed'}};

export function Resources() {
  const summary = useLoad(api.resourceSummary);
  const [type, setType] = useState('');
  const [project, setProject] = useState('');
  const [failure, fail] = useState(null);
  const [fresh, refresh] = useState(0); // counts discoveries that ended while this was open
  const running = summary.data?.projects.some(({state}) => state === 'running' || state === 'pending') ?? false;
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => { if (!document.hidden) summary.again(); }, INTERVAL);
    return () => { clearInterval(timer); refresh(n => n + 1); };
  }, [running]);
  const discover = async () => {
    fail(null);
    try {
      await api.discover();
      summary.again();
      refresh(n => n + 1);
    } catch (problem) {
      fail(problem);
    }
  };
  const title = html`<${Tabs} now="resources">Resources<//>`;
  if (summary.error && !summary.data) return html`${title}<${Refused} error=${summary.error} again=${summary.again} />`;
  if (!summary.data) return html`${title}<${Loading} />`;
  const {total, by_type: byType, projects} = summary.data;
  return html`${title}
    <div class="head-row"><p class="lead" role="status">${count(total, 'resource')} in ${count(projects.length, 'project')}${running ? ', and still looking.' : '.'}</p>
      <${Action} act=${discover}>Discover again<//></div>
    <${Failure} error=${failure} />
    ${total > 0 && html`<${Chart} byType=${byType} type=${type} choose=${setType} />`}
    <${Discoveries} projects=${projects} />
    ${total > 0 && html`<${List} key=${[type, project, fresh].join()} type=${type} project=${project} projects=${projects} setProject=${setProject} setType=${setType} />`}
    ${total === 0 && !running && html`<p class="empty">Nothing was found.</p>`}`;
}

/** Bars by type, the most first. Each is a button that filters the list. */
function Chart({byType, type, choose}) {
  const [all, showAll] = useState(false);
  const counts = Object.entries(byType).sort(([a, n], [b, m]) => m - n || typeName(a).localeCompare(typeName(b)));
  const most = counts[0][1];
  const shown = all ? counts : counts.filter(([name], i) => i < BARS || name === type);
  return html`<section class="card"><h2 id="by-type">By type</h2>
    <ul class="bars" aria-labelledby="by-type">${shown.map(([name, n]) => html`<li key=${name}>
      <button type="button" class="bar" aria-pressed=${type === name} onClick=${() => choose(type === name ? '' : name)}>
        <span class="bar-name">${typeName(name, true)}</span>
        <svg class="bar-line" width="100%" height="10" aria-hidden="true" focusable="false"><rect class="bar-track" width="100%" height="10" rx="5" /><rect class="bar-fill" width=${100 * n / most + '%'} height="10" rx="5" /></svg>
        <span class="bar-count">${number(n)}</span>
      </button></li>`)}</ul>
    ${shown.length < counts.length && html`<button type="button" class="quiet more" onClick=${() => showAll(true)}>Show all ${counts.length} types</button>`}</section>`;
}

function Discoveries({projects}) {
  const failed = projects.filter(({state}) => state === 'failed');
  return html`<details class="card" open=${failed.length > 0}><summary><h2>Discovery by project</h2></summary>
    <table class="stacked"><caption class="visually-hidden">Discovery by project</caption>
      <thead><tr><th scope="col">Project</th><th scope="col">State</th><th scope="col" class="numeric">Resources</th><th scope="col">Ended</th></tr></thead>
      <tbody>${projects.map(({projectId, state, count: n, finished_at: at, error}) => html`<tr key=${projectId}><th scope="row"><code>${projectId}</code></th>
        <td data-label="State"><${Badge} tone=${DISCOVERY[state]?.tone ?? 'idle'}>${DISCOVERY[state]?.text ?? state}<//>${error && html`<p class="small">${error}</p>`}</td>
        <td data-label="Resources" class="numeric">${number(n)}</td><td data-label="Ended">${time(at) || '–'}</td></tr>`)}</tbody></table></details>`;
}

/**
 * The list: 25 at a time of what the server gives by the thousand. A search
 * looks at all of it, so it has the rest fetched first.
 */
function List({type, project, projects, setProject, setType}) {
  const [items, set] = useState({list: [], token: undefined, loaded: false});
  const [error, fail] = useState(null);
  const [search, setSearch] = useState('');
  const [page, turn] = useState(0);
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = useMemo(() => words.length === 0 ? items.list : items.list.filter(r =>
    words.every(word => [r.name, r.projectId, r.region, r.zone, r.state, typeName(r.type), r.asset_type, ...Object.entries(r.labels ?? {}).flat()].join(' ').toLowerCase().includes(word))), [items, search]);
  const more = !items.loaded || Boolean(items.token) && (words.length > 0 || found.length < (page + 1) * PAGE + 1);
  useEffect(() => {
    if (!more || error) return;
    let here = true;
    api.resources({type, project, page_size: 1000, page_token: items.token}).then(
      answer => here && set(now => ({list: now.list.concat(answer.resources), token: answer.next_page_token, loaded: true})),
      problem => here && fail(problem));
    return () => { here = false; };
  }, [more, items.token, error]);
  const shown = found.slice(page * PAGE, (page + 1) * PAGE);
  const filter = text => { setSearch(text); turn(0); };
  return html`<section class="card"><h2>List</h2>
    <div class="list-tools">
      <label class="search"><span class="visually-hidden">Search resources</span><${Icon} name="search" /><input type="search" placeholder="Search by name, place or label" value=${search} onInput=${event => filter(event.target.value)} /></label>
      <label class="inline">Project <select value=${project} onChange=${event => setProject(event.target.value)}><option value="">All</option>${projects.map(({projectId}) => html`<option value=${projectId}>${projectId}</option>`)}</select></label>
      ${type && html`<button type="button" class="chip" onClick=${() => setType('')}>${typeName(type, true)}<${Icon} name="cross" /><span class="visually-hidden">, show all types</span></button>`}
    </div>
    <${Failure} error=${error} again=${() => fail(null)} />
    <table class="stacked brief"><caption class="visually-hidden">Resources</caption>
      <thead><tr><th scope="col">Name</th><th scope="col">Type</th><th scope="col">Project</th><th scope="col">Place</th><th scope="col">State</th></tr></thead>
      <tbody>${shown.map(r => html`<tr key=${r.id}><th scope="row" title=${r.id}>${r.name}</th><td data-label="Type">${typeName(r.type)}</td>
        <td data-label="Project"><code>${r.projectId}</code></td><td data-label="Place">${r.zone || r.region}</td><td data-label="State">${r.state?.toLowerCase().replaceAll('_', ' ')}</td></tr>`)}</tbody></table>
    ${more && html`<${Loading} />`}
    ${!more && found.length === 0 && html`<p class="empty">Nothing matches.</p>`}
    <${Pager} page=${page} turn=${turn} size=${PAGE} total=${found.length} more=${Boolean(items.token)} />
  </section>`;
}

/** From which to which of how many, with the way to the next ones. */
export const Pager = ({page, turn, size, total, more}) => total > 0 && html`<div class="pager">
  <p class="muted" role="status">${number(page * size + 1)} to ${number(Math.min((page + 1) * size, total))} of ${number(total)}${more ? ' and more' : ''}</p>
  <div class="button-group"><button type="button" disabled=${page === 0} onClick=${() => turn(page - 1)}>Previous</button>
    <button type="button" disabled=${(page + 1) * size >= total} onClick=${() => turn(page + 1)}>Next</button></div></div>`;
