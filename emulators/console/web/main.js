// Where the page begins.

import {html, render} from './lib.js';
import {arrive} from './router.js';
import {App} from './app.js';
import {session} from './session.js';

if (session.theme) document.documentElement.dataset.theme = session.theme; // before anything is drawn
arrive();

// Back from Google by the browser's button: the page may be shown as it was
// left, in the middle of a login that goes on no more.
addEventListener('pageshow', event => { if (event.persisted) location.reload(); });

render(html`<${App} />`, document.getElementById('app'));
