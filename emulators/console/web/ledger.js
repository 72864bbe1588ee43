// The ledger of changes, in words and in groups: before a setup (a plan), before
// a disconnect (what will be undone) and after one (what was).

import {Fragment, html, useEffect, useState} from './lib.js';
import * as api from './api.js';
import {CHANGES, count, number, shortAPI, shortRole, who} from './words.js';

/** All changes of the user's ledger in these states: {changes, error}. */
export function useLedger(...states) {
  const [result, set] = useState({changes: null, error: null});
  useEffect(() => {
    let here = true;
    Promise.all(states.map(state => api.pages(api.changes, {state}, 'changes', {most: 50000})))
      .then(lists => here && set({changes: lists.flat(), error: null}), error => here && set({changes: null, error}));
    return () => { here = false; };
  }, []);
  return result;
}

/**
 * How many of these were taken back before: roles that Aurora itself took from
 * its accounts since, because the root project moved or access was switched off.
 */
export function takenBefore(changes, removed) {
  const says = ({projectId, target, role, member}) => [projectId, target, role, member].join();
  const taken = new Map(removed.filter(change => change.done_at).map(change => [says(change), Date.parse(change.done_at)]));
  return changes.filter(change => change.kind === 'add_binding' && taken.get(says(change)) > Date.parse(change.planned_at)).length;
}

/** What a change is about: an API, an account, a role. */
const thing = ({kind, target, role}) => html`<code>${kind === 'enable_api' ? shortAPI(target) : role ? shortRole(role) : target}</code>`;

/** The member that a role goes to or from, and on which account where it is not on the project. */
const recipient = ({kind, target, member, projectId}, verb) => member && html`${kind === 'remove_binding' || verb?.startsWith('und') ? 'from' : 'to'} <span title=${member}>${who(member)}</span>${target !== projectId && html`, on <span title=${target}>${who(target)}</span>`}`;

/** A change in a line. */
export const Change = ({change}) => html`${thing(change)} ${recipient(change)}`;

/** Changes of one project, roles by their members, each with why where that is said. */
export const ChangeList = ({changes, verb}) => [...Map.groupBy(changes, ({member, target}) => member && member + target)].map(([key, list]) => html`<${Fragment} key=${key}>
  ${key && html`<p class="recipient">${recipient(list[0], verb)}</p>`}
  <ul>${list.map(change => html`<li>${thing(change)}${change.why && html`<span class="muted">: ${change.why}</span>`}</li>`)}</ul><//>`);

/** Changes in groups of a kind: [[kind, changes]], in the order in which people care. */
function byKind(changes) {
  const groups = new Map(Object.keys(CHANGES).map(kind => [kind, []]));
  for (const change of changes) groups.get(change.kind)?.push(change);
  return [...groups].filter(([, group]) => group.length > 0);
}

/**
 * A list of changes: a line for each kind with how many, and each of them
 * behind it, by project where there are several. verb says of when it is: plan,
 * undo or undid.
 */
export function ChangeSummary({changes, verb}) {
  const several = changes.some(({projectId}) => projectId !== changes[0].projectId);
  return html`<ul class="change-groups">
    ${byKind(changes).map(([kind, group]) => html`<${Group} key=${kind} kind=${kind} group=${group} verb=${verb} several=${several} />`)}
  </ul>`;
}

function Group({kind, group, verb, several}) {
  const [open, set] = useState(false); // of thousands of lines only those are made that somebody looks at
  const {one, many, [verb]: word} = CHANGES[kind];
  const projects = [...Map.groupBy(group, change => change.projectId)];
  return html`<li><details onToggle=${event => set(event.target.open)}>
    <summary><b>${word} ${count(group.length, one, many)}</b>${several && html` <span class="muted">in ${count(projects.length, 'project')}</span>`}</summary>
    ${open && projects.map(([project, list]) => html`<div class="change-project">${several && html`<h3><code>${project}</code> <span class="muted">${number(list.length)}</span></h3>`}
      <${ChangeList} changes=${list} verb=${verb} /></div>`)}
  </details></li>`;
}
