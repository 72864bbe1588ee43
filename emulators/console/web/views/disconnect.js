// Disconnect: what will be undone, from the ledger, before the button; and the
// outcome after.

import {html, useState} from '../lib.js';
import * as api from '../api.js';
import {go, link} from '../router.js';
import {session} from '../session.js';
import {ChangeSummary, takenBefore, useLedger} from '../ledger.js';
import {Action, Failure, Icon, Loading, Notice, Outside, Title, useLoad} from '../ui.js';
import {GOOGLE_CONNECTIONS, NEEDS_REAUTH, count} from '../words.js';
import {ConnectButton} from './connect.js';
import {Refused, Tabs} from './connection.js';

export function Disconnect() {
  const {data, error, again} = useLoad(api.connection);
  const {changes, error: unread} = useLedger('done', 'planned');
  const title = html`<${Tabs} now="disconnect">Disconnect<//>`;
  if (error ?? unread) return html`${title}<${Refused} error=${error ?? unread} again=${error && again} />`;
  if (!data || !changes) return html`${title}<${Loading}>Reading what Aurora changed<//>`;
  if (!data.isConnected) return html`<${Title}>Not connected<//><p class="lead">There is nothing to disconnect.</p><p><a class="button primary" href=${link('connect')}>Connect Google Cloud</a></p>`;
  return html`${title}<${Ways} needsReauth=${data.needsReauth} changes=${changes} />`;
}

function Ways({needsReauth, changes}) {
  const [way, choose] = useState(needsReauth ? 'only' : 'cleanup');
  const [apis, setAPIs] = useState(false);
  const [error, fail] = useState(null);
  // What goes back: roles that were taken from Aurora's own accounts are nobody's loss.
  const all = changes.filter(change => change.kind !== 'remove_binding');
  const enabled = all.filter(change => change.kind === 'enable_api');
  const undone = all.filter(change => change.kind !== 'enable_api' || apis);
  const taken = takenBefore(undone, changes.filter(change => change.kind === 'remove_binding'));
  const unconfirmed = undone.filter(change => change.state === 'planned').length;
  const act = async () => {
    fail(null);
    try {
      const answer = await api.disconnect(way === 'cleanup' ? {cleanup: true, ...(apis && {disable_apis: true})} : {});
      session.task = answer.task_id ?? null;
      if (answer.task_id) return go('setup', answer.task_id);
      last = answer;
      go('disconnected');
    } catch (problem) {
      fail(problem);
    }
  };
  return html`
    <form class="ways" onSubmit=${event => event.preventDefault()}>
      <fieldset><legend class="visually-hidden">How to disconnect</legend>
        <label class="way"><input type="radio" name="way" value="cleanup" checked=${way === 'cleanup'} disabled=${needsReauth} onChange=${() => choose('cleanup')} />
          <span><b>Disconnect and clean up</b><span class="muted">Undoes what Aurora changed, then revokes your consent and deletes the tokens.</span></span></label>
        <label class="way"><input type="radio" name="way" value="only" checked=${way === 'only'} onChange=${() => choose('only')} />
          <span><b>Disconnect only</b><span class="muted">Revokes your consent and deletes the tokens at once. What Aurora set up stays in your cloud.</span></span></label>
      </fieldset>
    </form>
    ${needsReauth && html`<${Notice} tone="warn" title="A cleanup needs your consent" actions=${html`<${ConnectButton}>Re-authenticate<//>`}><p>${NEEDS_REAUTH} Then disconnect with cleanup.</p><//>`}
    ${way === 'cleanup' && html`<section class="card"><h2>This will be undone</h2>
      ${undone.length > 0 ? html`<${ChangeSummary} changes=${undone} verb="undo" />` : html`<p class="empty">Aurora changed nothing that stands.</p>`}
      ${taken > 0 && html`<p class="muted">${count(taken, 'of these roles was', 'of these roles were')} taken back before, when the root project moved or access was switched off.</p>`}
      ${unconfirmed > 0 && html`<p class="muted">${count(unconfirmed, 'of these is', 'of these are')} unconfirmed: Aurora looks whether ${unconfirmed === 1 ? 'it' : 'they'} happened.</p>`}
      ${enabled.length > 0 && html`<label class="check"><input type="checkbox" checked=${apis} onChange=${event => setAPIs(event.target.checked)} />
        <span>Also disable the ${count(enabled.length, 'API')} that Aurora enabled<span class="muted">Those that are in use stay. This can take some minutes.</span></span></label>`}
      <p class="muted">Policies that somebody changed since stay as they are.${enabled.length > 0 && !apis && ` ${count(enabled.length, 'enabled API stays', 'enabled APIs stay')} enabled.`}</p></section>`}
    ${way === 'only' && html`<section class="card"><h2>This will stay</h2>
      ${all.length > 0 ? html`<p>${count(all.length, 'change')} in your cloud. To undo them later, connect again and disconnect with cleanup.</p>` : html`<p class="empty">Aurora changed nothing that stands.</p>`}
      <p class="muted">Tokens of the service accounts that were given out work for up to an hour; a cleanup ends them with the accounts.</p></section>`}
    <p>What was discovered is forgotten either way. The list of changes stays, for you to look at.</p>
    <${Failure} error=${error} />
    <div class="actions"><${Action} class="danger" act=${act}>${way === 'cleanup' ? `Disconnect and undo ${count(undone.length, 'change')}` : 'Disconnect now'}<//><a class="button" href=${link('connection')}>Keep the connection</a></div>`;
}

/** What the last disconnect of this page answered. */
let last = null;

export function Disconnected() {
  const answer = last ?? {message: 'GCP disconnected successfully'};
  const {changes} = useLedger('done', 'planned');
  const stands = changes?.filter(change => change.kind !== 'remove_binding').length ?? 0;
  return html`<${Title} kicker="Google Cloud">Disconnected<//>
    <${Notice} tone="ok" live><p>${answer.message}. ${answer.google_grant === 'revoked' && 'Your consent was revoked at Google, and the tokens are deleted.'}</p><//>
    ${answer.notice && html`<${Notice} tone="warn"><p>${answer.notice}</p><p><${Outside} href=${GOOGLE_CONNECTIONS}>Your account’s connections<//></p><//>`}
    ${stands > 0 && html`<p>${count(stands, 'change')} that Aurora made still ${stands === 1 ? 'stands' : 'stand'} in your cloud: <a href=${link('changes', '', {state: 'done'})}>see each of them</a>. To undo them, connect again and disconnect with cleanup.</p>`}
    <p><a class="button" href=${link('connect')}>Connect again<${Icon} name="arrow" /></a></p>`;
}
