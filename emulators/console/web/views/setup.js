// Progress: a setup, or a cleanup, from its first step to its outcome. The
// task's ID is in the address and remembered, so that a reload and a closed tab
// lose nothing: all of this is drawn from the status alone.

import {html, useEffect, useMemo, useState} from '../lib.js';
import * as api from '../api.js';
import {useStatus} from '../poll.js';
import {replace, go, link} from '../router.js';
import {session} from '../session.js';
import {Action, Badge, Failure, Icon, Loading, Notice, Progress, Title, useNow} from '../ui.js';
import {ChangeSummary, useLedger} from '../ledger.js';
import {LOGINS, NEEDS_REAUTH, OUTCOMES, REMEDIES, REMOVAL_STEPS, STEPS, count, duration} from '../words.js';
import {ConnectButton} from './connect.js';

/** Whether a status is of a cleanup. */
const removes = status => Boolean(status.result?.cleanup_status) || status.total_steps === 1 ||
  status.steps.some(step => step.name in REMOVAL_STEPS) || /cleanup/i.test(status.status);

export function Setup({argument: task}) {
  const {status, error, gaveUp, again} = useStatus(task);
  useEffect(() => {
    if (status) session.task = task; // it exists, and is this user's
  }, [task, Boolean(status)]);
  if (error && !error.passing) {
    return html`<${Title}>This setup cannot be shown<//>
      <${Notice} tone="warn" live actions=${html`<a class="button" href=${link('connection')}>Go to your connection</a>`}><p>${error.message}</p><//>`;
  }
  if (!status) return html`<${Title}>Setting up Google Cloud<//>${error ? html`<${Failure} error=${error} />` : html`<${Loading}>Asking how far it is<//>`}`;
  const removal = removes(status);
  return html`
    <${Announcer} status=${status} removal=${removal} />
    <${Head} status=${status} removal=${removal} />
    ${error && html`<${Notice} tone="warn" live><p>${error.message}</p><//>`}
    ${gaveUp && html`<${Notice} tone="warn" live actions=${html`<button type="button" onClick=${again}>Go on watching</button>`}>
      <p>This has taken half an hour. It goes on without this page, which has stopped asking.</p><//>`}
    ${status.complete ? html`<${Ending} status=${status} task=${task} removal=${removal} />` : html`<${Under} removal=${removal} />`}
    <div class="progress-columns">
      <section aria-labelledby="steps"><h2 id="steps">Steps</h2><${Timeline} status=${status} removal=${removal} /></section>
      <section aria-labelledby="projects"><h2 id="projects">Projects</h2><${ProjectTable} status=${status} removal=${removal} /></section>
    </div>
    ${removal && status.complete && html`<${Undone} status=${status} />`}`;
}

/** What is said to screen readers: what changes, and not every second. */
function Announcer({status, removal}) {
  let text = status.status;
  if (!status.complete && status.step) {
    text = `Step ${status.step} of ${status.total_steps}: ${status.status}.`;
    if (status.propagation) text += ` Check ${status.propagation.current} of at most ${status.propagation.total}.`;
  } else if (status.complete) {
    text = headline(status, removal);
  }
  return html`<p class="visually-hidden" role="status" id="announcement">${text}</p>`;
}

function headline(status, removal) {
  const result = status.result;
  if (!status.complete) return removal ? 'Removing what Aurora set up' : 'Setting up Google Cloud';
  if (!result) return removal ? 'The cleanup did not finish' : 'The setup did not finish';
  if (removal && result.status === 'SUCCESS') return result.cleanup_status === 'FULL' ? 'Everything was undone' : 'Not everything could be undone';
  if (result.status === 'needs_selection') return 'Choose your projects';
  if (result.status !== 'SUCCESS') return removal ? 'The cleanup did not finish' : 'Google Cloud could not be set up';
  if (result.propagation_status === 'PARTIAL') return `${result.verified_projects} of ${count(result.total_projects, 'project')} are ready`;
  return result.total_projects === 1 ? 'Your project is ready' : `All ${count(result.total_projects, 'project')} are ready`;
}

function Head({status, removal}) {
  const percent = status.complete ? 100 : status.progress;
  const good = !status.complete || status.result?.status === 'SUCCESS' || status.result?.status === 'needs_selection';
  return html`<header class=${'setup-head' + (good ? '' : ' failed')}>
    <${Title} kicker=${removal ? (status.complete ? 'Disconnected' : 'Disconnecting') : status.complete ? 'Setup' : status.status}>${headline(status, removal)}<//>
    ${!status.complete && html`<${Progress} value=${percent} label=${headline(status, removal)} /><p class="muted percent">${percent} %</p>`}
  </header>`;
}

const Under = ({removal}) => html`<p class="lead">${removal
  ? 'Your connection has ended. What Aurora changed is being undone, from its list of changes; you may close this page.'
  : LOGINS.gcp_setup_pending.text}</p>`;

// The timeline

/** Whether a step did not do in a project what it is for. A policy that stays is no error of the project's. */
const flawed = (id, {error, org_policy: policy}) => error?.step === id || id === 'update-org-policies' && ['forbidden', 'failed'].includes(policy);

function stateOf(id, record, status) {
  if (!record) return status.complete ? 'skipped' : 'upcoming';
  if (record.outcome === 'done') return status.projects.some(project => flawed(id, project)) ? 'flawed' : 'done';
  if (record.finished_at) return record.outcome === 'needs_selection' ? 'asked' : 'failed';
  if (status.complete) return 'failed';
  return ['waiting', 'retrying'].includes(record.outcome) ? record.outcome : 'running';
}

const STATE_WORDS = {
  done: 'Done', flawed: 'Done, but not in every project', running: 'Running', waiting: 'Waiting', retrying: 'Trying again', failed: 'Stopped',
  asked: 'Asks you', upcoming: 'Not yet', skipped: 'Not reached',
};
const STATE_ICONS = {done: 'check', flawed: 'alert', failed: 'cross', asked: 'info', waiting: 'clock', retrying: 'clock', skipped: 'dash', upcoming: 'dash', running: 'dash'};

function Timeline({status, removal}) {
  const steps = Object.entries(removal ? REMOVAL_STEPS : STEPS);
  return html`<ol class="timeline">${steps.map(([id, {name, what}]) => {
    const record = status.steps.find(step => step.name === id);
    const state = stateOf(id, record, status);
    return html`<li key=${id} class=${'step ' + state} aria-current=${['running', 'waiting', 'retrying'].includes(state) ? 'step' : undefined}>
      <span class="step-mark">${state === 'running' ? html`<span class="spinner" aria-hidden="true"></span>` : html`<${Icon} name=${STATE_ICONS[state]} />`}</span>
      <div class="step-body">
        <p class="step-head"><b>${name}</b><span class="visually-hidden">, ${STATE_WORDS[state]}</span>${record && html`<${Took} record=${record} over=${status.complete} />`}</p>
        <p class="muted">${what}</p>
        ${id === 'verify-permissions' && status.propagation && !status.complete && html`<${Checks} status=${status} record=${record} />`}
        ${['waiting', 'retrying'].includes(state) && id !== 'verify-permissions' && html`<${Next} status=${status} state=${state} />`}
        ${record?.attempts > 1 && id !== 'verify-permissions' && html`<p class="muted small">Run ${record.attempts} times</p>`}
      </div>
    </li>`;
  })}</ol>${status.steps.length === 0 && !status.complete && html`<${Next} status=${status} state="pending" />`}`;
}

/** How long a step has taken, to this very second while it runs. */
function Took({record, over}) {
  const running = !record.finished_at && !over;
  const now = useNow(running);
  if (!record.started_at || !running && !record.finished_at) return null;
  return html`<span class="took">${duration((record.finished_at ? Date.parse(record.finished_at) : now) - Date.parse(record.started_at))}</span>`;
}

/** The checks of permissions: how many, of how many, and when the next one is due. */
function Checks({status: {propagation: {current, total}, projects, next_at: next}, record}) {
  const left = projects.filter(project => !project.verified).length;
  const waits = record?.outcome === 'waiting';
  return html`<div class="checks">
    <p>Check ${current} of at most ${total}${left > 0 && waits && html`: ${count(left, 'project is', 'projects are')} not ready yet`}</p>
    <div class="ticks-meter" aria-hidden="true">${Array.from({length: total}, (_, i) => html`<span class=${i < current ? 'on' : ''}></span>`)}</div>
    ${waits && html`<p class="muted small">Google takes time to spread permissions, mostly below two minutes. <${Countdown} at=${next} before="Next check" /></p>`}
  </div>`;
}

function Next({status, state}) {
  const words = {waiting: 'Goes on', retrying: 'Tries again', pending: 'Begins'}[state];
  return html`<p class="muted small">${status.next_at ? html`<${Countdown} at=${status.next_at} before=${words} />` : words + ' in a moment.'}</p>`;
}

function Countdown({at, before}) {
  const left = Math.ceil((Date.parse(at) - useNow(Boolean(at))) / 1000);
  if (!at) return `${before} soon.`;
  return html`<span class="countdown">${left > 0 ? `${before} in ${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}` : `${before} now`}.</span>`;
}

// The projects

const COLUMNS = [['apis', 'APIs'], ['access', 'Access'], ['org_policy', 'Org policy']];
const SHOWN = 50;

function ProjectTable({status, removal}) {
  const [all, set] = useState(false);
  const projects = useMemo(() => [...status.projects].sort((a, b) => Boolean(b.error) - Boolean(a.error)), [status]);
  if (projects.length === 0) return html`<p class="muted">${status.complete ? 'None.' : removal ? 'The list of changes is being read.' : 'They are being looked for.'}</p>`;
  const shown = all ? projects : projects.slice(0, SHOWN);
  return html`<table class="projects stacked">
    <caption class="visually-hidden">Projects by phase</caption>
    <thead><tr><th scope="col">Project</th>${removal ? html`<th scope="col">Cleanup</th>` : html`${COLUMNS.map(([, name]) => html`<th scope="col">${name}</th>`)}<th scope="col">Verified</th>`}</tr></thead>
    <tbody>${shown.map(project => html`<${ProjectRow} key=${project.projectId} project=${project} over=${status.complete} removal=${removal} />`)}</tbody>
  </table>
  ${shown.length < projects.length && html`<p><button type="button" onClick=${() => set(true)}>Show all ${projects.length} projects</button></p>`}`;
}

function ProjectRow({project, over, removal}) {
  const cell = (name, outcome) => {
    const {text, tone} = OUTCOMES[outcome] ?? OUTCOMES.pending;
    return html`<td data-label=${name}><${Badge} tone=${over && tone === 'busy' ? 'warn' : tone}>${text}<//></td>`;
  };
  const verified = project.verified ? {tone: 'ok', text: 'Verified'} : over ? {tone: 'danger', text: 'Not verified'} : {tone: 'idle', text: 'Not yet'};
  return html`<tr class=${project.error ? 'with-error' : ''}>
    <th scope="row"><code title=${project.projectId}>${project.projectId}</code></th>
    ${removal ? cell('Cleanup', project.removal || 'pending') : html`${COLUMNS.map(([field, name]) => cell(name, project[field]))}
      <td data-label="Verified"><${Badge} tone=${verified.tone}>${verified.text}<//></td>`}
  </tr>
  ${project.error && html`<tr class="error-row"><td colspan=${removal ? 2 : 5}><${ProjectError} error=${project.error} /></td></tr>`}`;
}

function ProjectError({error}) {
  const remedies = REMEDIES[error.step] ?? [];
  return html`<div class="project-error">
    <p>${error.message}</p>
    ${remedies.length > 0 && html`<details><summary>What may help</summary><ul>${remedies.map(remedy => html`<li>${remedy}</li>`)}</ul></details>`}
  </div>`;
}

// The ending

function Ending({status, task, removal}) {
  const [error, setError] = useState(null);
  const result = status.result;
  useEffect(() => {
    if (result?.status === 'needs_selection') replace('projects');
  }, []);
  const retry = async () => {
    setError(null);
    try {
      go('setup', (await api.setUp()).task_id);
    } catch (problem) {
      setError(problem);
    }
  };
  const done = html`<a class="button primary" href=${link('connection')}>Go to your connection<${Icon} name="arrow" /></a>`;
  const messages = html`${[...new Set(status.warnings.map(warning => warning.message))].map(text => html`<p>${text}</p>`)}`;

  if (removal && result?.status === 'SUCCESS') {
    return html`<${Notice} tone=${result.cleanup_status === 'FULL' ? 'ok' : 'warn'} actions=${html`<a class="button" href=${link('connect')}>Connect again</a>`}>
      <p>${count(result.undone, 'change was', 'changes were')} undone, your consent was given back, and the tokens are deleted.</p>${messages}
      ${result.not_undone?.map(left => html`<p><b>${left.projectId}</b>: ${left.reason}</p>`)}
    <//>`;
  }
  if (result?.status === 'SUCCESS') {
    const failing = status.projects.filter(project => project.error || !project.verified).length;
    const {made, already_in_place: stood} = status.changes;
    return html`<${Notice} tone=${failing || status.warnings.length ? 'warn' : 'ok'} actions=${html`${failing > 0 && html`<${Action} class="primary" act=${retry}>Retry ${count(failing, 'project')}<//>`}${failing ? html`<a class="button" href=${link('connection')}>Go to your connection</a>` : done}`}>
      <p>${count(made, 'change was', 'changes were')} made and ${count(stood, 'thing was', 'things were')} in place already. <a href=${link('changes', '', {task_id: task})}>See each of them</a>.</p>${messages}
      <${Failure} error=${error} />
    <//>`;
  }
  if (result?.status === 'needs_selection') {
    return html`<${Notice} actions=${html`<a class="button primary" href=${link('projects')}>Choose projects</a>`}><p>${count(result.count, 'project')} can be set up.</p><//>`;
  }
  // It failed, or broke. What helps is in the words; what can be pressed depends.
  const message = result?.message || status.status;
  const consent = message.includes(NEEDS_REAUTH);
  return html`<${Notice} tone="danger" actions=${consent
    ? html`<${ConnectButton}>Re-authenticate<//>`
    : removal ? html`<a class="button" href=${link('connect')}>Connect again</a>`
    : html`<${Action} class="primary" act=${retry}>Retry<//><${ConnectButton} class="">Connect with another account<//>`}>
    <p>${message}</p>${messages}<${Failure} error=${error} />
  <//>`;
}

/** What a cleanup undid, which are the ledger's entries since it began, and what it left. */
function Undone({status}) {
  const began = Date.parse(status.steps[0]?.started_at);
  const {changes, error} = useLedger('undone', 'done');
  if (error) return html`<${Failure} error=${error} />`;
  if (!changes) return html`<${Loading}>Reading what was undone<//>`;
  const undone = changes.filter(change => change.state === 'undone' && !(Date.parse(change.undone_at) < began));
  const enabled = changes.filter(change => change.state === 'done' && change.kind === 'enable_api');
  return html`<section class="card"><h2>What was undone</h2>
    ${undone.length ? html`<${ChangeSummary} changes=${undone} verb="undid" />` : html`<p class="muted">Nothing.</p>`}
    ${enabled.length > 0 && html`<p class="muted">${count(enabled.length, 'API')} that Aurora enabled ${enabled.length === 1 ? 'stays' : 'stay'} enabled: others may need ${enabled.length === 1 ? 'it' : 'them'} by now. <a href=${link('changes', '', {state: 'done'})}>See what stays</a>.</p>`}
  </section>`;
}
