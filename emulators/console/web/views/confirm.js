// Confirm: where logins are bound by a confirmation and not by a cookie
// (LOGIN_BINDING=confirm), nothing is made of a consent until its user says
// that it was theirs.

import {html, useState} from '../lib.js';
import * as api from '../api.js';
import {replace, link} from '../router.js';
import {Action, Failure, Outside, Title} from '../ui.js';
import {GOOGLE_CONNECTIONS, LOGINS} from '../words.js';

export function Confirm({argument: task, user}) {
  const [error, set] = useState(null);
  const confirm = async () => {
    try {
      replace('setup', (await api.confirm(task)).task_id);
    } catch (problem) {
      set(problem);
    }
  };
  const {title, text} = LOGINS.gcp_confirm;
  return html`<section class="card narrow">
    <${Title} kicker="One question">${title}<//>
    <p class="lead">${text}</p>
    <p>You are <b>${user}</b> at Aurora. If you did not begin this yourself, somebody may have sent you the link to have your cloud connected to their account.</p>
    <${Failure} error=${error} />
    <div class="actions">
      <${Action} class="primary" act=${confirm}>Yes, this was me<//>
      <a class="button" href=${link('connect')}>No, leave it</a>
    </div>
    <p class="muted">Leaving it is enough. To be rid of the consent at once, remove Aurora from <${Outside} href=${GOOGLE_CONNECTIONS}>your account’s connections<//>.</p>
  </section>`;
}
