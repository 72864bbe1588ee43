// The frame around all views: header, the view of the address, and on the local
// stack the developers' panel.

import {html, useEffect, useRef, useState} from './lib.js';
import {replace, link, useRoute} from './router.js';
import {session} from './session.js';
import * as api from './api.js';
import {Icon, Loading, Title} from './ui.js';
import {Panel, panelThere} from './developer.js';
import {Connect} from './views/connect.js';
import {Confirm} from './views/confirm.js';
import {Setup} from './views/setup.js';
import {Projects} from './views/projects.js';
import {Plan} from './views/plan.js';
import {Connection} from './views/connection.js';
import {Resources} from './views/resources.js';
import {Changes} from './views/changes.js';
import {Disconnect, Disconnected} from './views/disconnect.js';

const VIEWS = {
  '': Home, connect: Connect, confirm: Confirm, setup: Setup, projects: Projects, plan: Plan,
  connection: Connection, resources: Resources, changes: Changes, disconnect: Disconnect, disconnected: Disconnected,
};

export function App() {
  const at = useRoute();
  const [user, setUser] = useState(session.user);
  const [panel, setPanel] = useState({there: false, open: false});
  const main = useRef(), before = useRef('');
  useEffect(() => { panelThere().then(there => setPanel(now => ({...now, there}))); }, []);

  // A view that opens in place of another has the focus at its heading, so that
  // keyboard and screen reader begin there; the first one leaves it to the browser.
  useEffect(() => {
    const from = before.current;
    before.current = at.name;
    if (!from) return;
    scrollTo(0, 0);
    main.current.querySelector('h1')?.focus({preventScroll: true});
  }, [at.name, at.argument]);

  const actAs = id => {
    session.user = id;
    setUser(id);
    replace('');
  };
  const View = VIEWS[at.name] ?? Nowhere;
  return html`
    <a class="skip" href="#main" onClick=${event => { event.preventDefault(); main.current.focus(); }}>Skip to content</a>
    <header class="top">
      <a class="brand" href=${link('')}><img src="/console/icon.svg" alt="" width="28" height="28" /><b>Aurora</b><span>Google Cloud</span></a>
      <div class="top-tools">
        ${panel.there && html`<button type="button" class="quiet" id="panel-button" aria-expanded=${panel.open} aria-controls="panel"
          onClick=${() => setPanel({there: true, open: !panel.open})}><${Icon} name="tools" /><span class="wide">Developers</span><span class="acting">as ${user}</span></button>`}
        <${Theme} />
      </div>
    </header>
    <div class="frame">
      <main id="main" tabindex="-1" ref=${main}>
        <div class="view" key=${[at.name, at.argument, user].join()}><${View} argument=${at.argument} query=${at.query} user=${user} /></div>
      </main>
      ${panel.open && html`<${Panel} user=${user} actAs=${actAs} close=${() => {
        setPanel({there: true, open: false});
        document.getElementById('panel-button').focus();
      }} />`}
    </div>
    <footer class="bottom"><p>${panel.there
      ? 'A local stack: Google is emulated, and nothing here reaches a real cloud.'
      : 'Tokens are kept in HashiCorp Vault, and nowhere else.'}</p></footer>`;
}

/** Light or dark: as the system has it, until the user says otherwise. */
function Theme() {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const [theme, set] = useState(session.theme ?? (dark.matches ? 'dark' : 'light'));
  useEffect(() => {
    const changed = () => { if (!session.theme) set(dark.matches ? 'dark' : 'light'); };
    dark.addEventListener('change', changed);
    return () => dark.removeEventListener('change', changed);
  }, []);
  const other = theme === 'dark' ? 'light' : 'dark';
  const change = () => {
    session.theme = document.documentElement.dataset.theme = other;
    set(other);
  };
  return html`<button type="button" class="quiet icon-only" onClick=${change} aria-label=${`Switch to ${other} colours`}><${Icon} name=${theme === 'dark' ? 'sun' : 'moon'} /></button>`;
}

/** Goes to where the user left off: a setup that is not over, the connection, or the beginning. */
function Home() {
  useEffect(() => {
    let here = true;
    const to = (...where) => here && replace(...where);
    (async () => {
      if (session.task) {
        try {
          const status = await api.status(session.task);
          if (!status.complete || status.result?.status === 'needs_selection') return to('setup', session.task);
        } catch (error) {
          if (error.passing) return to('setup', session.task); // it says what is wrong, and tries again
          session.task = null; // not this user's, or forgotten
        }
      }
      const {isConnected} = await api.connection().catch(() => ({}));
      to(isConnected ? 'connection' : 'connect');
    })();
    return () => { here = false; };
  }, []);
  return html`<h1 class="visually-hidden">Aurora</h1><${Loading}>Looking where you left off<//>`;
}

const Nowhere = () => html`<${Title}>There is no such page<//><p><a class="button" href=${link('')}>Go to the start</a></p>`;
