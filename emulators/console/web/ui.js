// The small parts that views are made of.

import {html, useEffect, useLayoutEffect, useRef, useState} from './lib.js';
import {clockSkew} from './api.js';

const PATHS = {
  check: 'M5 12.500l4.500 4.500L19 7.500',
  cross: 'M6.500 6.500l11 11M17.500 6.500l-11 11',
  alert: 'M12 8v5m0 3.200v.1M10.700 4.300L3 18a1.500 1.500 0 0 0 1.300 2.200h15.400A1.500 1.500 0 0 0 21 18L13.300 4.300a1.500 1.500 0 0 0-2.600 0z',
  info: 'M12 11v5.500m0-9v.1M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0z',
  clock: 'M12 7v5l3.200 2M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0z',
  dash: 'M7 12h10',
  arrow: 'M5 12h14m-6-6l6 6-6 6',
  back: 'M19 12H5m6 6l-6-6 6-6',
  search: 'M20 20l-4.300-4.300M17.500 11a6.500 6.500 0 1 1-13 0 6.500 6.500 0 0 1 13 0z',
  sun: 'M12 3v2m0 14v2M3 12h2m14 0h2M5.600 5.600L7 7m10 10l1.400 1.400M18.400 5.600L17 7M7 17l-1.400 1.400M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0z',
  moon: 'M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500z',
  tools: 'M4 7h10m4 0h2M4 17h2m4 0h10M16 9.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM8 19.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5z',
  shield: 'M12 3l7.500 3v5.500c0 4.500-3 8-7.500 9.500-4.500-1.500-7.500-5-7.500-9.500V6zM8.500 12l2.500 2.500 4.500-5',
  key: 'M12.500 15.500a5 5 0 1 1-10 0 5 5 0 0 1 10 0zM11 12l9.500-9.500M16 7l3 3 2.500-2.500-3-3',
  undo: 'M4 9h10a5.500 5.500 0 0 1 0 11H9M4 9l4.500-4.500M4 9l4.500 4.500',
  outside: 'M13 5h6v6m0-6l-9 9M10 6H5.500A1.500 1.500 0 0 0 4 7.500v11A1.500 1.500 0 0 0 5.500 20h11a1.500 1.500 0 0 0 1.500-1.500V14',
  chevron: 'M9 6l6 6-6 6',
};

/** An icon. It says nothing to screen readers: words beside it do. */
export const Icon = ({name}) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;

const TONE_ICONS = {ok: 'check', warn: 'alert', danger: 'cross', idle: 'dash', busy: 'clock', info: 'info'};

/** A state in a word, never by colour alone. */
export const Badge = ({tone, children, title}) => html`<span class="badge ${tone}" title=${title}><${Icon} name=${TONE_ICONS[tone]} />${children}</span>`;

/** Something that the user should know, with what to do about it among its children. */
export function Notice({tone = 'info', title, children, actions, live}) {
  return html`<div class="notice ${tone}" role=${live && (tone === 'danger' ? 'alert' : 'status')}>
    <${Icon} name=${TONE_ICONS[tone] === 'cross' ? 'alert' : TONE_ICONS[tone]} />
    <div class="notice-body">
      ${title && html`<h2>${title}</h2>`}
      ${children}
      ${actions && html`<div class="actions">${actions}</div>`}
    </div>
  </div>`;
}

/** What an ApiError says. */
export const Failure = ({error, again}) => error && html`<${Notice} tone="danger" live
  actions=${again && html`<button type="button" onClick=${again}>Try again</button>`}><p>${error.message}</p><//>`;

/** A button that is busy until what it does is done, and cannot be pressed twice meanwhile. */
export function Action({act, children, class: kind = '', disabled, ...rest}) {
  const [busy, set] = useState(false);
  const mounted = useMounted();
  const press = async () => {
    if (busy) return;
    set(true);
    try {
      await act();
    } finally {
      if (mounted.current) set(false);
    }
  };
  return html`<button type="button" class=${kind} onClick=${press} aria-disabled=${busy || undefined} disabled=${disabled} ...${rest}>
    ${busy && html`<span class="spinner" aria-hidden="true"></span>`}${children}
  </button>`;
}

/** A wait for an answer. It shows itself only when that takes a moment. */
export const Loading = ({children = 'Loading'}) => html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>${children}…</p>`;

/** A share of a whole, said in words too. */
export const Progress = ({value, label}) => html`<div class="progress" role="progressbar" aria-label=${label} aria-valuenow=${Math.round(value)} aria-valuemin="0" aria-valuemax="100">
  <div style=${{width: value + '%'}}></div>
</div>`;

/** Whether the heading that had the focus is gone: the one that comes in its place takes it. */
let orphaned = false;

/** The first heading of a view. It can have the focus, and names the document. */
export function Title({children, kicker}) {
  const heading = useRef();
  useLayoutEffect(() => {
    const own = heading.current;
    if (orphaned) own.focus({preventScroll: true});
    orphaned = false;
    return () => { orphaned = document.activeElement === own; };
  }, []);
  useEffect(() => {
    document.title = heading.current.textContent + ' · Aurora';
  });
  return html`${kicker && html`<p class="kicker">${kicker}</p>`}<h1 tabindex="-1" ref=${heading}>${children}</h1>`;
}

/** An external link. */
export const Outside = ({href, children}) => html`<a href=${href} target="_blank" rel="noopener noreferrer">${children}<span class="visually-hidden"> (opens in a new tab)</span><${Icon} name="outside" /></a>`;

/** A text that is copied by a press: an ID, an email address. */
export function Copy({text}) {
  const [done, set] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(set, 2000, false);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = () => navigator.clipboard?.writeText(text).then(() => set(true), () => {});
  return html`<span class="copy"><code>${text.split(/(?<=[@.])/).map(part => html`${part}<wbr />`)}</code><button type="button" class="quiet small" onClick=${copy} aria-label=${'Copy ' + text}>${done ? 'Copied' : 'Copy'}</button></span>`;
}

export function useMounted() {
  const mounted = useRef(true);
  useEffect(() => () => { mounted.current = false; }, []);
  return mounted;
}

/** The server's time, once a second while it runs. */
export function useNow(running = true) {
  const [now, set] = useState(() => Date.now() + clockSkew);
  useEffect(() => {
    if (!running) return;
    set(Date.now() + clockSkew);
    const timer = setInterval(() => set(Date.now() + clockSkew), 1000);
    return () => clearInterval(timer);
  }, [running]);
  return now;
}

/**
 * What a function of api.js answers: {data, error, again, set}. It is asked
 * again when one of deps changes, and then keeps what it has until the answer.
 */
export function useLoad(load, deps = []) {
  const [state, set] = useState({data: null, error: null});
  const [round, setRound] = useState(0);
  useEffect(() => {
    let here = true;
    load().then(data => here && set({data, error: null}), error => here && set(before => ({...before, error})));
    return () => { here = false; };
  }, [...deps, round]);
  return {...state, again: () => setRound(n => n + 1), set: data => set({data, error: null})};
}
