// Every view has an address: #/name/argument?query. The browser's history,
// reload and bookmarks then work by themselves.

import {useEffect, useState} from './lib.js';

/** @returns {{name: string, argument: string, query: URLSearchParams}} */
export function route() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, argument = ''] = path.split('/').map(decodeURIComponent);
  return {name, argument, query: new URLSearchParams(query)};
}

/** The address of a view. */
export function link(name, argument, query) {
  let hash = '#/' + [name, argument].filter(Boolean).map(encodeURIComponent).join('/');
  if (query) hash += '?' + new URLSearchParams(query);
  return hash;
}

export const go = (...to) => { location.hash = link(...to); };

/** Goes on without leaving the present view in the history, for what the user did not ask for. */
export function replace(...to) {
  history.replaceState(null, '', location.pathname + link(...to));
  dispatchEvent(new HashChangeEvent('hashchange'));
}

export function useRoute() {
  const [now, set] = useState(route);
  useEffect(() => {
    const changed = () => set(route());
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return now;
}

/**
 * Google's callback sends the browser to /?login=VALUE[&task_id=ID]: turn that
 * into the address of a view at once. The ID in it is nobody else's business,
 * and a reload must not tell the story again.
 */
export function arrive() {
  const query = new URLSearchParams(location.search);
  const login = query.get('login'), task = query.get('task_id');
  if (!login) return;
  let to = ['connect', '', {login}];
  if (login === 'gcp_setup_pending' && task) to = ['setup', task];
  else if (login === 'gcp_confirm' && task) to = ['confirm', task];
  else if (login === 'gcp_success') to = ['connection'];
  history.replaceState(null, '', location.pathname + link(...to));
}
