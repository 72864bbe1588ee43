// The plan: everything that a setup of the chosen projects would change and
// why, what stands in its way, and only then the button.

import {html, useState} from '../lib.js';
import * as api from '../api.js';
import {go, link, replace} from '../router.js';
import {Action, Badge, Failure, Icon, Loading, Notice, Title, useLoad} from '../ui.js';
import {ChangeSummary} from '../ledger.js';
import {CHANGES, count} from '../words.js';
import {Refused} from './connection.js';

export function Plan({query}) {
  const text = query.get('projects') ?? '';
  if (!text) return html`<${Title}>Nothing is chosen<//><p><a class="button" href=${link('projects')}>Choose projects</a></p>`;
  return html`<${PlanOf} key=${text} text=${text} />`;
}

function PlanOf({text}) {
  const ids = text.split(',');
  const {data, error, again} = useLoad(() => api.plan(ids));
  const change = html`<a class="button" href=${link('projects', '', {projects: text})}><${Icon} name="back" />Change the choice</a>`;
  if (error) return html`<${Title}>What would change<//><${Refused} error=${error} again=${again} /><p>${change}</p>`;
  if (!data) return html`<${Title}>What would change<//><${Loading}>Looking at ${count(ids.length, 'project')} at Google. Nothing is changed<//>`;
  return html`<${Planned} plan=${data} ids=${ids} change=${change} />`;
}

function Planned({plan, ids, change}) {
  const [error, set] = useState(null);
  const {projects, totals, warnings, service_accounts: accounts} = plan;
  const lacking = projects.filter(project => project.missing_permissions.length > 0);
  const rest = ids.filter(id => !lacking.some(project => project.projectId === id));
  const start = async () => {
    set(null);
    try {
      go('setup', (await api.setUp(ids)).task_id);
    } catch (problem) {
      set(problem);
    }
  };
  return html`
    <${Title} kicker="Setup">What would change<//>
    <p class="lead">${totals.changes
      ? html`${count(totals.changes, 'change')} in ${count(projects.filter(project => project.changes.length).length, 'project')}. Nothing has been changed yet, and each change can be undone.`
      : 'Nothing: everything is in place already. A setup would verify it.'}</p>
    <dl class="figures">${Object.entries(CHANGES).filter(([kind]) => totals.by_kind[kind]).map(([kind, {plan: verb, one, many}]) =>
      html`<div><dt>${verb} ${totals.by_kind[kind] === 1 ? one : many}</dt><dd>${totals.by_kind[kind]}</dd></div>`)}</dl>
    ${accounts.root_project && html`<section class="card"><h2>Service accounts</h2>
      <p>They live in the root project <code>${accounts.root_project}</code>. Aurora acts as these two and as no other.</p>
      <dl class="pairs"><div><dt>Manages</dt><dd><code>${accounts.full_access_sa}</code></dd></div><div><dt>Only reads</dt><dd><code>${accounts.read_only_sa}</code></dd></div></dl></section>`}
    ${lacking.length > 0 && html`<${Notice} tone="warn" title=${count(totals.missing_permissions, 'permission is', 'permissions are') + ' missing'}
      actions=${rest.length > 0 && html`<button type="button" onClick=${() => replace('plan', '', {projects: rest.join()})}>Leave ${count(lacking.length, 'project')} out</button>`}>
      <p>In ${count(lacking.length, 'project')} what needs ${totals.missing_permissions === 1 ? 'it' : 'them'} will fail. The others are not touched by that.</p><//>`}
    ${warnings.map(warning => html`<${Notice} tone="warn"><p>${warning.message}</p><//>`)}
    <h2>Project by project</h2>
    <ul class="plan-projects">${projects.map(project => html`<${PlannedProject} key=${project.projectId} project=${project} />`)}</ul>
    <div class="sticky-bar">${change}<span class="grow"><${Failure} error=${error} />${error?.code === 'conflict' && html`<a href=${link('')}>Look at the setup that runs</a>`}</span>
      <${Action} class="primary" act=${start}>Set up ${count(ids.length, 'project')}<//></div>`;
}

function PlannedProject({project: {projectId: id, name, isRootProject, changes, missing_permissions: missing, unknown}}) {
  return html`<li class="card">
    <h3>${name && name !== id && html`${name} `}<code>${id}</code>${isRootProject && html` <${Badge} tone="info">Root project<//>`}${changes.length === 0 && html` <${Badge} tone="ok">In place<//>`}</h3>
    ${missing.map(obstacle => html`<p class="obstacle"><${Badge} tone="warn">Missing<//> ${obstacle.message}</p>`)}
    ${unknown.map(obstacle => html`<p class="obstacle"><${Badge} tone="warn">Unknown<//> ${obstacle.message}</p>`)}
    ${changes.length > 0 && html`<${ChangeSummary} changes=${changes.map(change => ({...change, projectId: id}))} verb="plan" />`}
  </li>`;
}
