// Connect: what will happen and why, before anything does.

import {html, useEffect, useRef, useState} from '../lib.js';
import * as api from '../api.js';
import {Action, Failure, Icon, Notice, Outside, Title} from '../ui.js';
import {link} from '../router.js';
import {GOOGLE_CONNECTIONS, LOGINS, MANAGED, SCOPES, otherLogin} from '../words.js';

/** Begins a login, and leaves for Google's consent page. */
export function ConnectButton({children = 'Connect GCP', class: kind = 'primary'}) {
  const [error, set] = useState(null);
  const begin = async () => {
    set(null);
    try {
      location.assign((await api.login()).login_url);
      await new Promise(() => {}); // busy until the page is left
    } catch (problem) {
      set(problem);
    }
  };
  return html`<${Action} class=${kind} act=${begin}>${children}<${Icon} name="arrow" /><//><${Failure} error=${error} />`;
}

/** The outcome of a login that did not lead to a setup, with the next thing to do. */
function Ending({value}) {
  const {tone, title, text, next, link: more} = LOGINS[value] ?? otherLogin(value);
  const box = useRef();
  useEffect(() => box.current.focus(), []); // it is what the user came back to
  return html`<div class="ending" ref=${box} tabindex="-1"><${Notice} tone=${tone} title=${title} live actions=${html`
    <${ConnectButton}>${next ?? 'Connect again'}<//>${more && html`<${Outside} href=${more.href}>${more.text}<//>`}`}>
    <p>${text}</p>
  <//></div>`;
}

const STAGES = [
  {icon: 'key', name: 'You consent at Google', text: 'Aurora sends you to Google’s own page. You sign in there, see what is asked for, and allow or deny it. Aurora never sees your password.'},
  {icon: 'shield', name: 'Aurora prepares your projects', text: 'It enables APIs, makes two service accounts of yours and gives them roles, and checks at Google that all of it works. With more than five projects you choose first.'},
  {icon: 'undo', name: 'You can take it back', text: 'Every change is written down before it is made. Disconnect with cleanup, and all of it is undone and your consent is revoked.'},
];

const CREATED = [
  {what: 'Two service accounts', why: 'In one root project: one manages, one only reads. Aurora acts as these, so that its work is told apart from yours in your audit logs.'},
  {what: 'Roles in each project', why: 'One for each service that Aurora manages, never Owner or Editor.'},
  {what: '25 APIs', why: 'Enabled where they are not, because nothing can be managed or discovered without them.'},
  {what: 'One organization policy', why: 'Set so that Cloud Run services can be made public, only where you may decide that.'},
];

export function Connect({query}) {
  const [connected, set] = useState(null);
  useEffect(() => {
    let here = true;
    api.connection().then(answer => here && answer.isConnected && set(answer), () => {}); // to know is a courtesy
    return () => { here = false; };
  }, []);
  const ending = query.get('login');
  return html`
    ${ending && html`<${Ending} key=${ending} value=${ending} />`}
    <section class="hero">
      <${Title} kicker="Google Cloud connector">Connect your Google Cloud<//>
      <p class="lead">Aurora finds and manages what runs in your projects. Here is what will happen, and why, before anything does.</p>
      ${connected
        ? html`<div class="actions"><a class="button primary" href=${link('connection')}>Go to your connection<${Icon} name="arrow" /></a><${ConnectButton} class="">Connect again<//></div>
          <p class="muted">Connected as ${connected.email}.</p>`
        : html`<div class="actions"><${ConnectButton} class=${ending ? '' : 'primary'} /></div>
          <p class="muted">Takes about two minutes, mostly Google’s. You may close the page meanwhile.</p>`}
    </section>
    <ol class="stages">${STAGES.map(stage => html`<li><${Icon} name=${stage.icon} /><h2>${stage.name}</h2><p>${stage.text}</p></li>`)}</ol>
    <div class="columns">
      <section class="card">
        <h2>What Aurora asks for at Google</h2>
        <dl class="reasons">${SCOPES.map(({scope, name, why}) => html`<div><dt>${name} <code>${scope.replace('https://www.googleapis.com/auth/', '')}</code></dt><dd>${why}</dd></div>`)}</dl>
      </section>
      <section class="card">
        <h2>What is created in your cloud</h2>
        <dl class="reasons">${CREATED.map(({what, why}) => html`<div><dt>${what}</dt><dd>${why}</dd></div>`)}</dl>
      </section>
      <section class="card">
        <h2>Before you start</h2>
        <ul class="ticks">
          <li><${Icon} name="check" />A Google Cloud account with at least one active project.</li>
          <li><${Icon} name="check" />Billing enabled on at least one project.</li>
          <li><${Icon} name="check" />The role Owner on your projects. With Editor, Aurora cannot grant itself access; it says where.</li>
        </ul>
      </section>
      <section class="card">
        <h2>How to take it back</h2>
        <p><b>Disconnect with cleanup</b> removes roles and service accounts, restores organization policies and revokes your consent. You see the list before and after.</p>
        <p>Or remove Aurora at Google at any time: <${Outside} href=${GOOGLE_CONNECTIONS}>your account’s connections<//>.</p>
        <p class="muted">Tokens are stored in HashiCorp Vault only, encrypted at rest.</p>
      </section>
    </div>
    <section class="managed"><h2>What Aurora can discover and manage</h2><ul class="chips">${MANAGED.map(name => html`<li>${name}</li>`)}</ul></section>`;
}
