// Changes: the ledger, newest first. It outlives the connection.

import {html, useEffect, useState} from '../lib.js';
import * as api from '../api.js';
import {link, replace} from '../router.js';
import {Change, ChangeList} from '../ledger.js';
import {Badge, Failure, Loading} from '../ui.js';
import {CHANGES, CHANGE_STATES, count, number, time} from '../words.js';
import {Tabs} from './connection.js';

const PAGE = 250;
const FILTERS = [['', 'All'], ['done', 'Done'], ['undone', 'Undone'], ['refused', 'Refused'], ['planned', 'Unconfirmed']];

export function Changes({query}) {
  const state = query.get('state') ?? '', task = query.get('task_id') ?? '';
  const filter = to => replace('changes', '', Object.fromEntries(Object.entries({state, task_id: task, ...to}).filter(([, value]) => value)));
  return html`<${Tabs} now="changes">Changes<//>
    <p class="lead">Everything that Aurora changed in your cloud. Each change is written down before it is made.</p>
    <div class="list-tools">
      <fieldset class="segments"><legend class="visually-hidden">Show</legend>${FILTERS.map(([value, text]) => html`<label><input type="radio" name="state" value=${value} checked=${state === value} onChange=${() => filter({state: value})} /><span>${text}</span></label>`)}</fieldset>
      ${task && html`<button type="button" class="chip" onClick=${() => filter({task_id: ''})}>Of one setup<span aria-hidden="true"> ×</span><span class="visually-hidden">, show those of all</span></button>`}
    </div>
    <${Ledger} key=${state + task} state=${state} task=${task} />`;
}

/** A page of the server's at a time: tokens[n] leads to page n. */
function Ledger({state, task}) {
  const [tokens, setTokens] = useState([undefined]);
  const [page, turn] = useState(0);
  const [answer, set] = useState(null);
  const [error, fail] = useState(null);
  useEffect(() => {
    let here = true;
    api.changes({state, task_id: task, page_size: PAGE, page_token: tokens[page]}).then(found => {
      if (!here) return;
      set(found);
      setTokens(now => [...now.slice(0, page + 1), found.next_page_token]);
    }, problem => here && fail(problem));
    return () => { here = false; };
  }, [page]);
  if (error) return html`<${Failure} error=${error} />`;
  if (!answer) return html`<${Loading}>Reading the ledger<//>`;
  if (answer.changes.length === 0) return html`<p class="empty">${state || task ? 'None like this.' : html`None yet. <a href=${link('connect')}>Connect Google Cloud</a> first.`}</p>`;
  return html`<table class="stacked brief"><caption class="visually-hidden">Changes</caption>
    <thead><tr><th scope="col">What</th><th scope="col">Project</th><th scope="col">When</th><th scope="col">State</th></tr></thead>
    <tbody>${together(answer.changes).map(group => html`<${Row} key=${group[0].planned_at + group[0].kind + group[0].projectId} group=${group} />`)}</tbody></table>
  <div class="pager"><p class="muted" role="status">${number(page * PAGE + 1)} to ${number(page * PAGE + answer.changes.length)}</p>
    <div class="button-group"><button type="button" disabled=${page === 0} onClick=${() => turn(page - 1)}>Newer</button>
      <button type="button" disabled=${!answer.next_page_token} onClick=${() => turn(page + 1)}>Older</button></div></div>`;
}

/** Changes that were made together: the roles of a project, its APIs. They stand in one row, with each of them behind it. */
function together(changes) {
  const groups = [];
  for (const change of changes) {
    const [before] = groups.at(-1) ?? [];
    if (before && ['kind', 'projectId', 'task_id', 'state'].every(field => before[field] === change[field])) groups.at(-1).push(change);
    else groups.push([change]);
  }
  return groups;
}

function Row({group}) {
  const [change] = group;
  const {did, many} = CHANGES[change.kind] ?? {did: change.kind};
  return html`<tr><th scope="row">${group.length === 1 ? html`${did} <${Change} change=${change} />`
    : html`<details><summary>${did.replace(/ (API|service account|organization policy)$/, '')} ${count(group.length, '', many)}</summary><div class="together"><${ChangeList} changes=${group} /></div></details>`}</th>
    <td data-label="Project"><code>${change.projectId}</code></td>
    <td data-label="When">${time(change.undone_at ?? change.done_at ?? change.planned_at)}</td>
    <td data-label="State"><${Badge} ...${CHANGE_STATES[change.state]}>${CHANGE_STATES[change.state].text}<//></td></tr>`;
}
